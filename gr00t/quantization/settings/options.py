"""The named choices of DuQuant. Standard library only."""

from __future__ import annotations

from enum import Enum


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


class Execution(str, Enum):
    """What multiplies the codes. All give the same bits; `integer` insists on an int8 GEMM, `auto` prefers
    one.
    """

    FAKE = "fake"
    INTEGER = "integer"
    AUTO = "auto"
