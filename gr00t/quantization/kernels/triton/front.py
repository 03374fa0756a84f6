"""`x L^-1 R1 P R2` and its codes: everything before the integer GEMM, in one pass over a row.

A row is one program: its blocks, gathered through the permutation, are the rows of one small product with the
rotation that they share. The rotation is redone where the scale is known, since a row that was kept would
cost more than its arithmetic. Where every block has a matrix of its own, or one of more than 64 x 64, tokens
rather than blocks are the rows of the product, in a launch before that.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gr00t.quantization.kernels.triton.numbers import magnitude_bits, to_float, to_nearest
from gr00t.quantization.kernels.triton.tiles import ROTATED_ROWS, blocks_at_a_time, rotation_tile
from gr00t.quantization.numerics.quantizers import SMALLEST_SCALE


@triton.jit
def _gathered(
    x: tl.tensor,
    smoothing: tl.tensor,
    perm: tl.tensor,
    row: tl.tensor,
    block_index: tl.tensor,
    column: tl.tensor,
    is_there: tl.tensor,
    in_features: tl.tensor,
    block: tl.constexpr,
) -> tl.tensor:
    """(T, columns) of `x L^-1 P`: of `row` (T,) and block `block_index` (T,), zeros outside of x."""
    channel = block_index[:, None] * block + column[None, :]
    inside = is_there[:, None] & (column < block)[None, :] & (channel < in_features)
    source = channel
    if perm is not None:
        source = tl.load(perm + channel, mask=inside, other=0)
    there = inside & (source >= 0) & (source < in_features)
    v = to_float(tl.load(x + row[:, None].to(tl.int64) * in_features + source, mask=there, other=0.0))
    if smoothing is not None:
        v = tl.div_rn(v, tl.load(smoothing + source, mask=there, other=1.0))
    if perm is not None:
        # Nobody can be told of a broken permutation from within a graph: its rows become nan.
        v = tl.where(inside & (there == 0), float("nan"), v)
    return v


@triton.jit
def _rotated(
    x: tl.tensor,
    smoothing: tl.tensor,
    perm: tl.tensor,
    rotation: tl.tensor,
    row: tl.tensor,
    block_index: tl.tensor,
    first: tl.tensor,
    is_there: tl.tensor,
    in_features: tl.tensor,
    block: tl.constexpr,
    padded: tl.constexpr,
    width: tl.constexpr,
) -> tl.tensor:
    """(T, width): columns from `first` on of each block, rotated by the matrix at `rotation`."""
    column = first + tl.arange(0, width)
    if rotation is None:
        h = _gathered(x, smoothing, perm, row, block_index, column, is_there, in_features, block)
    else:
        h = tl.zeros((row.shape[0], width), tl.float32)
        for start in range(0, padded, width):
            inner = start + tl.arange(0, width)
            v = _gathered(x, smoothing, perm, row, block_index, inner, is_there, in_features, block)
            inside = (inner < block)[:, None] & (column < block)[None, :]
            r = tl.load(rotation + inner[:, None] * block + column[None, :], mask=inside, other=0.0)
            h = tl.dot(v, r, h, input_precision="ieee")
    return h


@triton.jit
def _rotate_kernel(
    x: tl.tensor,
    smoothing: tl.tensor,
    perm: tl.tensor,
    rotation: tl.tensor,
    h: tl.tensor,
    rows: tl.tensor,
    in_features: tl.tensor,
    matrix_stride: tl.tensor,
    block: tl.constexpr,
    padded: tl.constexpr,
    width: tl.constexpr,
    tile_rows: tl.constexpr,
) -> None:
    """One block of some rows, by a matrix that may be its own."""
    block_index = tl.program_id(0)
    row = tl.program_id(1) * tile_rows + tl.arange(0, tile_rows)
    matrix = None
    if rotation is not None:
        matrix = rotation + block_index.to(tl.int64) * matrix_stride
    blocks = tl.full((tile_rows,), block_index, tl.int32)
    for first in range(0, padded, width):
        column = first + tl.arange(0, width)
        result = _rotated(
            x, smoothing, perm, matrix, row, blocks, first, row < rows, in_features, block, padded, width
        )
        channel = block_index * block + column
        inside = (row < rows)[:, None] & ((column < block) & (channel < in_features))[None, :]
        tl.store(h + row[:, None].to(tl.int64) * in_features + channel[None, :], result, mask=inside)


@triton.jit
def _quantize_kernel(
    x: tl.tensor,
    smoothing: tl.tensor,
    perm: tl.tensor,
    rotation: tl.tensor,
    act_scale: tl.tensor,
    q: tl.tensor,
    s: tl.tensor,
    in_features: tl.tensor,
    q_stride: tl.tensor,
    qmin: tl.constexpr,
    qmax: tl.constexpr,
    smallest_scale: tl.constexpr,
    is_split: tl.constexpr,
    block: tl.constexpr,
    padded: tl.constexpr,
    tile_blocks: tl.constexpr,
) -> None:
    """One row: its peak, its scale, its codes."""
    number = tl.program_id(0)
    row = tl.full((tile_blocks,), number, tl.int32)
    blocks = tl.cdiv(in_features, block)
    column = tl.arange(0, padded)
    peak = number * 0
    for start in range(0, blocks, tile_blocks):
        at = start + tl.arange(0, tile_blocks)
        h = _rotated(
            x, smoothing, perm, rotation, row, at, 0, at < blocks, in_features, block, padded, padded
        )
        peak = tl.maximum(peak, tl.max(tl.max(magnitude_bits(h), 1), 0))
    is_finite = peak < 0x7F800000
    if act_scale is None:
        scale = tl.maximum(tl.div_rn(peak.to(tl.float32, bitcast=True), float(qmax)), smallest_scale)
    else:
        scale = 1.0
    scale = tl.where(is_finite, scale, float("nan"))  # outside the sum: the row comes out as nan
    tl.store(s + number, scale)
    for start in range(0, blocks, tile_blocks):
        at = start + tl.arange(0, tile_blocks)
        h = _rotated(
            x, smoothing, perm, rotation, row, at, 0, at < blocks, in_features, block, padded, padded
        )
        channel = at[:, None] * block + column[None, :]
        inside = (column < block)[None, :] & (channel < in_features)
        if act_scale is None:
            scaled = tl.div_rn(h, tl.full((tile_blocks, padded), scale, tl.float32))
        else:  # a channel's scale may be exceeded: saturate
            scaled = tl.div_rn(h, tl.load(act_scale + channel, mask=inside, other=1.0))
            scaled = tl.minimum(tl.maximum(scaled, float(qmin)), float(qmax))
        code = to_nearest(tl.where(is_finite, scaled, 0.0))
        place = channel
        if is_split:
            place = (channel >> 1) + (channel & 1) * (q_stride // 2)
        tl.store(q + number.to(tl.int64) * q_stride + place, code, mask=inside)


def rotate_blocks(
    x: Tensor, smoothing: Tensor | None, perm: Tensor | None, rotation: Tensor | None, block: int
) -> Tensor:
    """Return `x L^-1 P R`, (M, K) float32, for x (M, K) and a rotation (blocks or 1, block, block)."""
    h = torch.empty(x.shape, dtype=torch.float32, device=x.device)
    tile = rotation_tile(block)
    grid = (triton.cdiv(x.shape[1], block), triton.cdiv(x.shape[0], ROTATED_ROWS))
    stride = 0 if rotation is None or rotation.shape[0] == 1 else block * block
    _rotate_kernel[grid](
        *(x, smoothing, perm, rotation, h, *x.shape, stride, *tile, ROTATED_ROWS), num_warps=4, num_stages=1
    )
    return h


def quantize_rows(
    x: Tensor,
    smoothing: Tensor | None,
    perm: Tensor | None,
    rotation: Tensor | None,
    act_scale: Tensor | None,
    block: int,
    bits: int,
    is_split: bool,
) -> tuple[Tensor, Tensor]:
    """Return codes int8 and scales (M, 1) float32 of `x L^-1 P R`, with an R that `rotates_in_row`, or none.

    Args:
        is_split: codes are (M, 2 ceil(K / 2)), the even channels before the odd ones, as the GEMM reads them;
            else (M, K).
    """
    m, k = x.shape
    q = torch.empty((m, k + k % 2 if is_split else k), dtype=torch.int8, device=x.device)
    s = torch.empty((m, 1), dtype=torch.float32, device=x.device)
    tile = rotation_tile(block if rotation is not None else 64)
    half = 1 << (bits - 1)
    _quantize_kernel[(m,)](
        *(x, smoothing, perm, rotation, act_scale, q, s, k, q.shape[1], -half, half - 1, SMALLEST_SCALE),
        *(is_split, tile.block, tile.padded, blocks_at_a_time(k, tile)),
        num_warps=4,
    )
    return q, s
