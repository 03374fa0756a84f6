"""DuQuant W4A8 for any `nn.Module`: settings, selection, the quantized layer, and the one call that applies
them.

    report = enable_duquant_if_configured(model, environ=os.environ)

Its files, each importing from those before it: `options`, `parsers`, `config`, `metrics` · `spec` · `int4`,
`quantizers`, `storage`, `rotations`, `greedy_rotation`, `statistics`, `duquant_preprocess` · `kernels`,
`observers` · `duquant_layers`, `packs` · `selection`, `propagation`, `building`, `recording`, `calibration`,
`calibration_record`, `profile` · `report`, `apply`.
"""

from gr00t.quantization.apply import DuQuantDryRun, enable_duquant_if_configured, wrap_duquant
from gr00t.quantization.config import DuQuantConfig, DuQuantConfigError
from gr00t.quantization.duquant_layers import DuQuantLinear
from gr00t.quantization.report import DuQuantReport
from gr00t.quantization.selection import DuQuantSelectionError, judge_layers, select_targets
from gr00t.quantization.spec import IntFormat, LinearSpec

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
