"""int8 codes times packed int4 weights: the sums in int32, and in the same tile what comes after them.

A byte of the weight holds an even and an odd input channel, so a step is two products, of the low nibbles
with the even codes and of the high ones with the odd: nothing is interleaved. `g c`, an int8 (`quantizers`),
exists in registers only. Sums are exact in any order, so a tile's size changes no bit.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gr00t.quantization.kernels.triton.numbers import from_float, to_float
from gr00t.quantization.kernels.triton.tiles import GemmTile
from gr00t.quantization.numerics.storage import BLOCK_SCALE_OFFSET


@triton.jit
def _block_scales(
    block_scale: tl.tensor,
    n: tl.tensor,
    is_row: tl.tensor,
    group: tl.tensor,
    groups: tl.tensor,
    bits: tl.constexpr,
    offset: tl.constexpr,
) -> tl.tensor:
    """(outputs, groups) int8: the integer scales `g` of blocks `group` of rows `n`."""
    inside = is_row[:, None] & (group < groups)[None, :]
    if bits == 4:
        stored = n[:, None].to(tl.int64) * ((groups + 1) // 2) + (group // 2)[None, :]
        byte = tl.load(block_scale + stored, mask=inside, other=0).to(tl.int32)
        nibble = (byte >> ((group % 2) * 4)[None, :]) & 15
        g = (nibble ^ 8) - 8 + offset
    else:
        stored = n[:, None].to(tl.int64) * groups + group[None, :]
        g = tl.load(block_scale + stored, mask=inside, other=0)
    return g.to(tl.int8)


@triton.jit
def _weight(
    codes: tl.tensor,
    block_scale: tl.tensor,
    n: tl.tensor,
    is_row: tl.tensor,
    start: tl.tensor,
    evens: tl.tensor,
    odds: tl.tensor,
    code_bits: tl.constexpr,
    scale_bits: tl.constexpr,
    scale_offset: tl.constexpr,
    block: tl.constexpr,
    depth: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:
    """Two (outputs, depth) int8: `g c` of the even and of the odd channels of pairs from `start` on."""
    pair = start + tl.arange(0, depth)
    is_even = is_row[:, None] & (pair < evens)[None, :]
    if code_bits == 4:
        byte = tl.load(codes + n[:, None].to(tl.int64) * evens + pair[None, :], mask=is_even, other=0)
        # Shifting a signed byte right drags its sign along.
        low = (byte << 4).to(tl.int8, bitcast=True) >> 4
        high = byte.to(tl.int8, bitcast=True) >> 4
    else:
        place = n[:, None].to(tl.int64) * (evens + odds) + 2 * pair[None, :]
        low = tl.load(codes + place, mask=is_even, other=0)
        high = tl.load(codes + place + 1, mask=is_row[:, None] & (pair < odds)[None, :], other=0)
    if block_scale is not None:
        groups = tl.cdiv(evens + odds, block)
        if block > 1 and (block & (block - 1)) == 0:
            # Whole runs of pairs share a scale: one load for each of them.
            half: tl.constexpr = block // 2
            run: tl.constexpr = half if half < depth else depth
            group = start // half + tl.arange(0, depth // run)
            g = _block_scales(block_scale, n, is_row, group, groups, scale_bits, scale_offset)[:, :, None]
            shape: tl.constexpr = (n.shape[0], depth // run, run)
            low = tl.reshape(tl.reshape(low, shape) * g, (n.shape[0], depth))
            high = tl.reshape(tl.reshape(high, shape) * g, (n.shape[0], depth))
        else:
            even, odd = 2 * pair // block, (2 * pair + 1) // block
            low *= _block_scales(block_scale, n, is_row, even, groups, scale_bits, scale_offset)
            high *= _block_scales(block_scale, n, is_row, odd, groups, scale_bits, scale_offset)
    return low, high


@triton.jit
def _gemm_kernel(
    q: tl.tensor,
    s: tl.tensor,
    codes: tl.tensor,
    block_scale: tl.tensor,
    row_scale: tl.tensor,
    rotation: tl.tensor,
    bias: tl.tensor,
    y: tl.tensor,
    rows: tl.tensor,
    evens: tl.tensor,
    odds: tl.tensor,
    out_features: tl.tensor,
    q_stride: tl.tensor,
    q_odd: tl.tensor,
    q_step: tl.constexpr,
    code_bits: tl.constexpr,
    scale_bits: tl.constexpr,
    scale_offset: tl.constexpr,
    block_in: tl.constexpr,
    block_out: tl.constexpr,
    tile_m: tl.constexpr,
    tile_n: tl.constexpr,
    tile_k: tl.constexpr,
) -> None:
    """One tile of sums; finished where `s` is given. Tiles of the same weights run side by side.

    `evens` and `odds` are how many channels of either kind there are.
    """
    depth: tl.constexpr = tile_k // 2
    m = tl.program_id(0) * tile_m + tl.arange(0, tile_m)
    n = tl.program_id(1) * tile_n + tl.arange(0, tile_n)
    codes_at = q + m[None, :].to(tl.int64) * q_stride
    acc = tl.zeros((tile_n, tile_m), tl.int32)
    for start in range(0, evens, depth):
        pair = start + tl.arange(0, depth)[:, None]
        is_row = (m < rows)[None, :]
        even = tl.load(codes_at + pair * q_step, mask=is_row & (pair < evens), other=0)
        odd = tl.load(codes_at + q_odd + pair * q_step, mask=is_row & (pair < odds), other=0)
        low, high = _weight(
            codes,
            block_scale,
            n,
            n < out_features,
            start,
            evens,
            odds,
            code_bits,
            scale_bits,
            scale_offset,
            block_in,
            depth,
        )
        acc = tl.dot(low, even, acc, out_dtype=tl.int32)
        acc = tl.dot(high, odd, acc, out_dtype=tl.int32)
    sums = tl.trans(acc)
    inside = (m < rows)[:, None] & (n < out_features)[None, :]
    place = y + m[:, None].to(tl.int64) * out_features + n[None, :]
    if s is None:
        tl.store(place, sums, mask=inside)
    else:
        s_x = tl.load(s + m, mask=m < rows, other=0.0)[:, None]
        s_w = tl.load(row_scale + n, mask=n < out_features, other=0.0)[None, :]
        v = sums.to(tl.float32) * s_x * s_w
        if rotation is not None:
            i, j = tl.arange(0, block_out)[:, None], tl.arange(0, block_out)[None, :]
            v = tl.reshape(v, (tile_m * tile_n // block_out, block_out))
            v = tl.dot(v, tl.load(rotation + j * block_out + i), input_precision="ieee")
            v = tl.reshape(v, (tile_m, tile_n))
        if bias is not None:
            v += to_float(tl.load(bias + n, mask=n < out_features, other=0.0))[None, :]
        tl.store(place, from_float(v, y.dtype.element_ty), mask=inside)


def multiply(
    q: Tensor,
    is_split: bool,
    codes: Tensor,
    block_scale: Tensor | None,
    scale_bits: int,
    in_features: int,
    block_in: int,
    tile: GemmTile,
    rear: tuple[Tensor, Tensor, Tensor | None, Tensor | None, int, torch.dtype] | None = None,
) -> Tensor:
    """Return the sums (M, N) int32; or y (M, N), finished.

    Args:
        q: codes of x as `front.quantize_rows` returns them for `is_split`.
        rear: scales s (M, 1), row_scale (N, 1), a rotation (1, block_out, block_out) that a tile can undo,
            bias (N,), block_out, and the dtype of y.
    """
    s, row_scale, rotation, bias, block_out, dtype = rear or (None, None, None, None, 1, torch.int32)
    m, n = q.shape[0], codes.shape[0]
    y = torch.empty((m, n), dtype=dtype, device=q.device)
    step, odd = (1, q.shape[1] // 2) if is_split else (2, 1)
    _gemm_kernel[(triton.cdiv(m, tile.m), triton.cdiv(n, tile.n))](
        *(q, s, codes, block_scale, row_scale, rotation, bias, y),
        *(m, in_features - in_features // 2, in_features // 2, n, q.shape[1], odd, step),
        *(4 if codes.dtype == torch.uint8 else 8, scale_bits, BLOCK_SCALE_OFFSET, block_in, block_out),
        *tile[:3],
        num_warps=tile.warps,
        num_stages=tile.stages,
        # A product and the bias must not become one operation: `rear` rounds both.
        enable_fp_fusion=rotation is not None,
    )
    return y
