"""DuQuant W4A8 for any `nn.Module`: settings, selection, the quantized layer, and the one call that applies
them.

    report = enable_duquant_if_configured(model, environ=os.environ)

Its files, each importing from those before it: `options`, `parsers`, `unread_variables`, `config`, `metrics`
· `spec`, `seals`, `manifest_values`, `manifest` · `int4`, `quantizers`, `storage`,
`rotations`, `ordered_rotation`, `greedy_rotation`, `statistics`, `soundness`, `duquant_preprocess` ·
`kernels`, `observers` · `duquant_layers`, `tensor_file`, `packs` · `selection`, `propagation`, `building`,
`screening`, `recording`, `calibration`, `calibration_record`, `profile` · `report`, `apply`, `artefact`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gr00t.quantization.apply import DuQuantDryRun, enable_duquant_if_configured, wrap_duquant
    from gr00t.quantization.config import DuQuantConfig, DuQuantConfigError
    from gr00t.quantization.duquant_layers import DuQuantLinear
    from gr00t.quantization.report import DuQuantReport
    from gr00t.quantization.selection import DuQuantSelectionError, judge_layers, select_targets
    from gr00t.quantization.spec import IntFormat, LinearSpec

# Found on first use: whoever only reads the settings, as the evaluation does, must not import torch for it.
_MODULES = {
    "apply": ("DuQuantDryRun", "enable_duquant_if_configured", "wrap_duquant"),
    "config": ("DuQuantConfig", "DuQuantConfigError"),
    "duquant_layers": ("DuQuantLinear",),
    "report": ("DuQuantReport",),
    "selection": ("DuQuantSelectionError", "judge_layers", "select_targets"),
    "spec": ("IntFormat", "LinearSpec"),
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
