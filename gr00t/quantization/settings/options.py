"""The named choices of DuQuant. Standard library only."""

from __future__ import annotations

from enum import Enum

TORCH, TRITON = "torch", "triton"

# Who computes a layer where one is asked for by name: PyTorch's operations, the compiled kernels of CPUs
# (`kernels.build` compiles them), those of GPUs.
BACKENDS = (TORCH, "amx_int8", "avx512_vnni", "avx2", "neon_i8mm", "neon_dotprod", "portable", TRITON)


class Rotation(str, Enum):
    """How the orthogonal blocks on each side of a weight are chosen."""

    DUQUANT = "duquant"
    HADAMARD = "hadamard"
    SVD = "svd"
    NONE = "none"


class RowRotation(str, Enum):
    """What happens to the output-side rotation."""

    NONE = "0"
    RESTORE = "restore"
    PROPAGATE = "propagate"


class WeightScale(str, Enum):
    """Granularity of the weight scale: per output row and input block, or per output row alone."""

    BLOCK = "block"
    CHANNEL = "channel"


class Rounding(str, Enum):
    """How codes are chosen: each weight by itself, or so that those after it make up for what one loses.

    Feedback needs rows that a layer was called with; where none are kept, codes are the nearest.
    """

    NEAREST = "nearest"
    FEEDBACK = "feedback"


class Execution(str, Enum):
    """How codes are multiplied: by the fastest that can run, to the same bits.

    `integer` differs in what it refuses: a side in floating point, and a machine without an exact int8 GEMM.
    `fake` and `auto` refuse nothing, and do the same.
    """

    FAKE = "fake"
    INTEGER = "integer"
    AUTO = "auto"
