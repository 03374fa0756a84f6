"""Block rotations whose bits do not depend on who multiplies: the sums in the order of the compiled kernels.

A BLAS adds in an order of its own, fused or not, by the number of rows and by the processor. So with the same
weights a machine without a compiler gave other last bits than one with, for every block whose matrix is not
of powers of two: Hadamard's of 2, 8 or 32 channels, that of a shorter last block, and all that are chosen by
a weight. Here each sum is `s = fma(x_i, r_ij, s)` for i = 0, 1, ..., as `native/front.hpp` and
`native/rear.hpp` form it.

Where all blocks share one matrix whose factors are powers of two, as Hadamard's of 4, 16 and 64, products are
exact and the BLAS is taken: to sum 16 numbers one after the other is what all do that were tried. The order
costs: 2048 channels of 49 rows in blocks of 8 took 2.3 ms instead of 0.16, in blocks of 32 17 instead of 0.1,
beside 20 for the product with the weight (AMD EPYC, 2026-11-30). Who has a compiler does not pay it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gr00t.quantization.numerics.rotations import into_blocks, rotate

# Of a float64's 52 stored bits the 29 that a float32 has not: half of them set is the middle between two.
_BELOW_FLOAT32 = (1 << 29) - 1
_MIDDLE = 1 << 28


def rotate_in_order(x: Tensor, rotation: Tensor) -> Tensor:
    """Return `x R`, as `rotations.rotate` does, for x (M, K) and R (blocks or 1, B, B), both float32.

    On a CPU to the bits of the compiled kernels. Compiled by torch.compile, and elsewhere, by a BLAS.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling() or goes_to_blas(rotation):
        return rotate(x, rotation)
    split, factors = into_blocks(x, rotation.shape[-1]).double(), rotation.double()
    total = torch.zeros_like(split)
    for i in range(rotation.shape[-1]):
        total = _rounded(total, split[..., i : i + 1] * factors[:, i])  # 48 bits: exact
    return total.float().flatten(1)[:, : x.shape[1]]


def rotate_back_in_order(x: Tensor, rotation: Tensor) -> Tensor:
    """Return `x R^T`, likewise."""
    return rotate_in_order(x, rotation.mT)


def goes_to_blas(rotation: Tensor) -> bool:
    """Whether one matrix is shared, and a product with any of its numbers is exact."""
    mantissas = torch.frexp(rotation).mantissa.abs()
    return rotation.shape[0] == 1 and bool(((mantissas == 0.5) | (mantissas == 0)).all())


def _rounded(total: Tensor, product: Tensor) -> Tensor:
    """`total + product` rounded to a float32 once, all in float64.

    The float64 sum is rounded itself, and rounding twice errs where the first ends in the middle between two
    float32: there it is moved to the side that the exact sum is on.
    """
    found = total + product
    is_middle = (found.view(torch.int64) & _BELOW_FLOAT32) == _MIDDLE
    if is_middle.any():
        added = found - total
        error = (total - (found - added)) + (product - added)
        further = torch.where(error > 0, torch.inf, -torch.inf).to(found.dtype)
        moved = torch.nextafter(found, further)
        found = torch.where(is_middle & (error != 0), moved, found)
    return found.float().double()
