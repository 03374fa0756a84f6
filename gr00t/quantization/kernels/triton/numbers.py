"""Conversions that give the same bits compiled and interpreted.

`tl` is IEEE in its additions and multiplications. It is not in a plain `/`, which a GPU approximates
(`tl.div_rn` is), and Triton's interpreter cuts bfloat16 off where a GPU rounds it.
"""

from __future__ import annotations

import triton
import triton.language as tl

# Added and taken away, it leaves a float of magnitude below 2^22 rounded to an integer, half to even.
_ROUNDER = tl.constexpr(12582912.0)


@triton.jit
def to_float(v: tl.tensor) -> tl.tensor:
    """Return float32, bfloat16 or float16 as float32: exact."""
    if v.dtype == tl.bfloat16:
        v = (v.to(tl.uint16, bitcast=True).to(tl.uint32) << 16).to(tl.float32, bitcast=True)
    return v.to(tl.float32)


@triton.jit
def from_float(v: tl.tensor, dtype: tl.constexpr) -> tl.tensor:
    """Return float32 as `dtype`, rounded half to even."""
    if dtype == tl.bfloat16:
        bits = v.to(tl.uint32, bitcast=True)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        rounded = tl.where(v == v, rounded, 0x7FC0)  # a nan would overflow
        result = rounded.to(tl.uint16).to(tl.bfloat16, bitcast=True)
    else:
        result = v.to(dtype)
    return result


@triton.jit
def to_nearest(v: tl.tensor) -> tl.tensor:
    """Return float32 of magnitude below 128 as int8, half to even."""
    return ((v + _ROUNDER) - _ROUNDER).to(tl.int8)


@triton.jit
def magnitude_bits(v: tl.tensor) -> tl.tensor:
    """Return |v| as int32 bits, whose order is that of the numbers: inf and nan are the largest."""
    return v.to(tl.int32, bitcast=True) & 0x7FFFFFFF
