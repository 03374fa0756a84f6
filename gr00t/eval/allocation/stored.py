"""What a layer's quantized weight takes, as `quantization.numerics.storage` lays it out."""

from __future__ import annotations

import math

from gr00t.quantization.numerics.storage import buffer_shapes
from gr00t.quantization.settings.spec import LinearSpec

# What grows with the bits: the rest of a layer is the same for all of them.
_OF_WEIGHT = ("codes", "block_scale", "row_scale")


def weight_bytes(spec: LinearSpec) -> int:
    """Return the bytes of codes, block scales and row scales of a layer."""
    return sum(
        math.prod(shape) * dtype.itemsize
        for name, (shape, dtype) in buffer_shapes(spec).items()
        if name in _OF_WEIGHT
    )
