"""DuQuant W4A8 for any `nn.Module`: settings, selection, the quantized layer, and the one call that applies
them.

    report = enable_duquant_if_configured(model, environ=os.environ)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gr00t.quantization.duquant_layers import DuQuantLinear
    from gr00t.quantization.quantize import DuQuantDryRun, enable_duquant_if_configured, wrap_duquant
    from gr00t.quantization.report import DuQuantReport
    from gr00t.quantization.settings.environment import DuQuantConfig, DuQuantConfigError
    from gr00t.quantization.settings.selection import DuQuantSelectionError, judge_layers, select_targets
    from gr00t.quantization.settings.spec import IntFormat, LinearSpec

# Found on first use: whoever only reads the settings, as the evaluation does, must not import torch for it.
_MODULES = {
    "quantize": ("DuQuantDryRun", "enable_duquant_if_configured", "wrap_duquant"),
    "settings.environment": ("DuQuantConfig", "DuQuantConfigError"),
    "duquant_layers": ("DuQuantLinear",),
    "report": ("DuQuantReport",),
    "settings.selection": ("DuQuantSelectionError", "judge_layers", "select_targets"),
    "settings.spec": ("IntFormat", "LinearSpec"),
}

__all__ = [
    "DuQuantConfig",
    "DuQuantConfigError",
    "DuQuantDryRun",
    "DuQuantLinear",
    "DuQuantReport",
    "DuQuantSelectionError",
    "IntFormat",
    "LinearSpec",
    "enable_duquant_if_configured",
    "judge_layers",
    "select_targets",
    "wrap_duquant",
]


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
