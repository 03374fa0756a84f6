"""DuQuant W4A8 for any `nn.Module`.

    from gr00t.quantization import IntFormat, LinearScheme, plan, quantize_

    scheme = LinearScheme(weight=IntFormat(4), activation=IntFormat(8), block=16, calibration_steps=0)
    for layer in plan(model, scheme):        # what would be done with every Linear, and why
        print(layer, layer.spec or layer.reason)
    report = quantize_(model, scheme)        # in place; model(x) is now quantized

A scheme says what is asked, a `LayerPlan` what is decided about a layer, `RuntimeOptions` how it runs. The
`GR00T_DUQUANT_*` variables are one adapter onto the same objects (`settings.environment`):

    report = enable_duquant_if_configured(model, environ=os.environ, defaults=DEFAULTS)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gr00t.quantization.configured import enable_duquant_if_configured, list_layers
    from gr00t.quantization.duquant_layers import DuQuantLinear
    from gr00t.quantization.quantize import plan, quantize_
    from gr00t.quantization.report import DuQuantReport
    from gr00t.quantization.settings.environment import DuQuantConfig, DuQuantConfigError, DuQuantDryRunError
    from gr00t.quantization.settings.layer_filter import LayerFilter
    from gr00t.quantization.settings.options import Execution, Rotation, Rounding, RowRotation, WeightScale
    from gr00t.quantization.settings.scheme import LinearScheme, RuntimeOptions
    from gr00t.quantization.settings.selection import DuQuantSelectionError, LayerPlan
    from gr00t.quantization.settings.spec import IntFormat, LinearSpec

# Found on first use: whoever only reads the settings, as the evaluation does, must not import torch for it.
_MODULES = {
    "configured": ("enable_duquant_if_configured", "list_layers"),
    "duquant_layers": ("DuQuantLinear",),
    "quantize": ("plan", "quantize_"),
    "report": ("DuQuantReport",),
    "settings.environment": ("DuQuantConfig", "DuQuantConfigError", "DuQuantDryRunError"),
    "settings.layer_filter": ("LayerFilter",),
    "settings.options": ("Execution", "Rotation", "Rounding", "RowRotation", "WeightScale"),
    "settings.scheme": ("LinearScheme", "RuntimeOptions"),
    "settings.selection": ("DuQuantSelectionError", "LayerPlan"),
    "settings.spec": ("IntFormat", "LinearSpec"),
}

__all__ = [
    "DuQuantConfig",
    "DuQuantConfigError",
    "DuQuantDryRunError",
    "DuQuantLinear",
    "DuQuantReport",
    "DuQuantSelectionError",
    "Execution",
    "IntFormat",
    "LayerFilter",
    "LayerPlan",
    "LinearScheme",
    "LinearSpec",
    "Rotation",
    "Rounding",
    "RowRotation",
    "RuntimeOptions",
    "WeightScale",
    "enable_duquant_if_configured",
    "list_layers",
    "plan",
    "quantize_",
]


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
