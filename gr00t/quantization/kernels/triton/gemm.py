"""int8 codes times packed weights: the sums in int32, and in the same tile what comes after them.

A byte of the weight holds an even and an odd input channel, so a step is two products, of the low half bytes
with the even codes and of the high ones with the odd: nothing is interleaved. Sums are exact in any order, so
a tile's size changes no bit.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from gr00t.quantization.kernels.operands import LinearOperands
from gr00t.quantization.kernels.triton.numbers import from_float, to_float
from gr00t.quantization.kernels.triton.tiles import GemmTile
from gr00t.quantization.kernels.triton.weight import weight
from gr00t.quantization.numerics.storage import block_scale_offset


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
        low, high = weight(
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


class Finish(NamedTuple):
    """What makes sums an output in the same tile: scales s (M, 1), and the dtype of y."""

    s: Tensor
    dtype: torch.dtype


def multiply(
    q: Tensor,
    is_split: bool,
    layer: LinearOperands,
    in_features: int,
    tile: GemmTile,
    finish: Finish | None = None,
) -> Tensor:
    """Return the sums (M, N) int32; or y (M, N), finished.

    Args:
        q: codes of x as `prologue.quantize_rows` returns them for `is_split`.
        is_split: see there.
        layer: whose; its output rotation is one that a tile can undo where `finish` is given.
        in_features: K.
        tile: of tokens, outputs and inputs.
        finish: None for the sums.
    """
    codes = layer.codes
    assert codes is not None
    m, n = q.shape[0], codes.shape[0]
    s, row_scale, rotation, bias, block_out, dtype = None, None, None, None, 1, torch.int32
    if finish is not None:
        (s, dtype), row_scale, rotation, bias = finish, layer.row_scale, layer.rotation_out, layer.bias
        block_out = layer.block_out
    y = torch.empty((m, n), dtype=dtype, device=q.device)
    step, odd = (1, q.shape[1] // 2) if is_split else (2, 1)
    offset = block_scale_offset(layer.scale_bits) if layer.block_scale is not None else 0
    _gemm_kernel[(triton.cdiv(m, tile.m), triton.cdiv(n, tile.n))](
        *(q, s, codes, layer.block_scale, row_scale, rotation, bias, y),
        *(m, in_features - in_features // 2, in_features // 2, n, q.shape[1], odd, step),
        *(layer.code_bits, layer.scale_bits, offset, layer.block_in, block_out),
        *tile[:3],
        num_warps=tile.warps,
        num_stages=tile.stages,
        # A product and the bias must not become one operation: the epilogue rounds both.
        enable_fp_fusion=rotation is not None,
    )
    return y
