"""Floating point to integer codes and back. Symmetric throughout: `x ~ scale * code`, the zero point is 0.

Weights take a scale in two levels, so that one int8 GEMM serves every layer (progressive quantization as in
QServe, arXiv 2405.04532, made symmetric):

    w[n, k] ~ row_scale[n] * block_scale[n, k // B] * code[n, k]

with a float32 scale per output row and an *integer* scale per row and block of B inputs. `block_scale * code`
fits an int8 exactly, so the accumulator needs no per-block epilogue; only `row_scale` stands outside the sum.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gr00t.quantization.settings.options import WeightScale
from gr00t.quantization.settings.spec import IntFormat

# Below this a scale is a denormal's neighbour and x / scale overflows. An all-zero row gets it and stays
# zero.
SMALLEST_SCALE = torch.finfo(torch.float32).tiny * 2**24

# Shares of a row's range that the search tries where there are no block scales: what is clipped costs less
# than what the finer step saves, up to a point.
CLIPS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5)

# Block scales that the search tries at most, counted down from the smallest one that clips nothing.
TRIED_SCALES = 5


class QuantizedWeight(NamedTuple):
    """Codes (N, K) int8, block_scale (N, ceil(K / B)) uint8 and row_scale (N, 1) float32."""

    codes: Tensor
    block_scale: Tensor
    row_scale: Tensor


def scale_for(peak: Tensor, fmt: IntFormat) -> Tensor:
    """Return the float32 scale that maps magnitudes up to `peak` onto [-qmax, qmax]; never zero."""
    return (peak.float() / fmt.qmax).clamp_min(SMALLEST_SCALE)


def quantize(x: Tensor, scale: Tensor, fmt: IntFormat) -> Tensor:
    """Return the int8 codes of `x`, of its shape: round half to even, saturating; `scale` broadcasts."""
    return (x / scale).round_().clamp_(fmt.qmin, fmt.qmax).to(torch.int8)


def quantize_weight(weight: Tensor, fmt: IntFormat, block: int, granularity: WeightScale) -> QuantizedWeight:
    """Quantize a weight with the two-level scale, both levels chosen for the least squared error.

    Args:
        weight: (N, K), any float dtype; only read.
        fmt: code format.
        block: B, input channels per block; the last block may be shorter.
        granularity: `channel` fixes every block scale to 1.

    This is the oracle of the compiled search (`kernels.search`), which gives the same bits.
    """
    k = weight.shape[1]
    blocks = torch.nn.functional.pad(weight.float(), (0, -k % block)).unflatten(1, (-1, block))
    search = _search_blocks if granularity is WeightScale.BLOCK else _search_rows
    codes, block_scale, row_scale = search(blocks.permute(2, 0, 1).contiguous(), fmt)
    return QuantizedWeight(codes.permute(1, 2, 0).flatten(1)[:, :k], block_scale.to(torch.uint8), row_scale)


def integer_weight(codes: Tensor, block_scale: Tensor, block: int) -> Tensor:
    """Return `block_scale * code` as (N, K) int8, the weight operand of the GEMM."""
    # Widened: -8 * 16 = -128 fits an int8 but the block scale 128 of a 2-bit format would not.
    wide = block_scale.to(torch.int16).repeat_interleave(block, dim=1)[:, : codes.shape[1]]
    return (codes.to(torch.int16) * wide).to(torch.int8)


def row_steps(weight: Tensor, fmt: IntFormat) -> Tensor:
    """Return the step (N, 1) float32 of each row of a weight (N, K) that has block scales.

    The finest with which the row's peak block still fits; searching it too gained 0.06 dB at three times the
    cost (512 x 2048 Gaussian, block 16).
    """
    return scale_for(weight.abs().amax(dim=1, keepdim=True), fmt) / fmt.largest_block_scale


# The searches take a weight as (B, rows, blocks): what a block has one of varies last then, and every
# operation runs over long stretches of memory.


def _search_rows(w: Tensor, fmt: IntFormat) -> tuple[Tensor, Tensor, Tensor]:
    """One scale per row: the best of a few clippings. `w` is (B, rows, blocks)."""
    full = scale_for(w.abs().amax(dim=(0, 2))[:, None], fmt)  # (rows, 1)
    best_error, best_scale = torch.full_like(full, torch.inf), full
    for clip in CLIPS:
        scale = full * clip
        error = _sum_in_halves(_rounding_error(w, scale, fmt).T)[:, None] * clip * clip
        best_scale = torch.where(error < best_error, scale, best_scale)
        best_error = torch.minimum(error, best_error)
    return quantize(w, best_scale, fmt), torch.ones(w.shape[1:], device=w.device), best_scale


def _search_blocks(w: Tensor, fmt: IntFormat) -> tuple[Tensor, Tensor, Tensor]:
    """A float step per row, `row_steps`, then the best multiple of it per block. `w` is (B, rows, blocks)."""
    wanted = scale_for(w.abs().amax(dim=0), fmt)  # (rows, blocks): no clipping
    step = wanted.amax(dim=1, keepdim=True) / fmt.largest_block_scale  # (rows, 1)
    w = w / step
    unclipped = torch.ceil(wanted / step).clamp_(min=1)  # 1 to the largest, which is the peak block's
    multiple = best_multiple(w, unclipped, fmt)
    return quantize(w, multiple, fmt), multiple, step


def best_multiple(w: Tensor, unclipped: Tensor, fmt: IntFormat, weights: Tensor | None = None) -> Tensor:
    """Return the block scale of least squared error, of the few from `unclipped` downward.

    Args:
        w: (B, ...) the blocks, in units of their row's step.
        unclipped: (...) the smallest block scales that clip nothing, or the largest allowed.
        fmt: code format.
        weights: (B,) of the squared errors of a block's channels; None: all alike.
    """
    best_error, best = torch.full_like(unclipped, torch.inf), unclipped
    for smaller in range(min(TRIED_SCALES, fmt.largest_block_scale)):
        multiple = (unclipped - smaller).clamp_(min=1)
        error = _rounding_error(w, multiple, fmt, weights) * multiple * multiple
        best = torch.where(error < best_error, multiple, best)
        best_error = torch.minimum(error, best_error)
    return best


def _rounding_error(w: Tensor, scale: Tensor, fmt: IntFormat, weights: Tensor | None = None) -> Tensor:
    """Sum of each block's squared rounding errors in units of its `scale`: (rows, blocks).

    Without a root: `torch.sqrt` is off by one in the last place at times, and not everywhere by the same.
    """
    scaled = w / scale
    rounded = torch.round(scaled).clamp_(fmt.qmin, fmt.qmax)
    squared = rounded.sub_(scaled).square_()
    return _sum_in_halves(squared if weights is None else squared.mul_(weights[:, None]))


def _sum_in_halves(x: Tensor) -> Tensor:
    """Sum over the first dimension by adding the second half to the first, again and again; overwrites `x`.

    A fixed order, whatever the processor: `torch.sum` and `vector_norm` add in the order of its vectors, and
    two scales that are as good as equal would be chosen between by the last bit.
    """
    count = len(x)
    while count > 1:
        half = (count + 1) // 2
        x[: count - half] += x[half:count]
        count = half
    return x[0]
