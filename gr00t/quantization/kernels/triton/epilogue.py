"""`y = (acc * s_x * s_w) U^T + bias` from sums in memory: for sums that something else made, and for output
rotations that a tile of the GEMM does not hold.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gr00t.quantization.kernels.operands import LinearOperands
from gr00t.quantization.kernels.triton.numbers import from_float, to_float
from gr00t.quantization.kernels.triton.tiles import ROTATED_ROWS, rotation_tile


@triton.jit
def _scaled(
    acc: tl.tensor,
    s: tl.tensor,
    row_scale: tl.tensor,
    m: tl.tensor,
    n: tl.tensor,
    is_row: tl.tensor,
    is_output: tl.tensor,
    out_features: tl.tensor,
) -> tl.tensor:
    """(rows, columns) of `acc * s_x * s_w`, zeros outside."""
    inside = is_row[:, None] & is_output[None, :]
    sums = tl.load(acc + m[:, None].to(tl.int64) * out_features + n[None, :], mask=inside, other=0)
    s_x = tl.load(s + m, mask=is_row, other=0.0)[:, None]
    s_w = tl.load(row_scale + n, mask=is_output, other=0.0)[None, :]
    return sums.to(tl.float32) * s_x * s_w


@triton.jit
def _epilogue_kernel(
    acc: tl.tensor,
    s: tl.tensor,
    row_scale: tl.tensor,
    rotation: tl.tensor,
    bias: tl.tensor,
    y: tl.tensor,
    rows: tl.tensor,
    out_features: tl.tensor,
    matrix_stride: tl.tensor,
    block: tl.constexpr,
    padded: tl.constexpr,
    width: tl.constexpr,
    tile_rows: tl.constexpr,
) -> None:
    """One block of outputs of some rows."""
    origin = tl.program_id(0) * block
    m = tl.program_id(1) * tile_rows + tl.arange(0, tile_rows)
    for first in range(0, padded, width):
        column = first + tl.arange(0, width)
        n = origin + column
        is_output = (column < block) & (n < out_features)
        if rotation is None:
            v = _scaled(acc, s, row_scale, m, n, m < rows, is_output, out_features)
        else:
            matrix = rotation + tl.program_id(0).to(tl.int64) * matrix_stride
            v = tl.zeros((tile_rows, width), tl.float32)
            for start in range(0, padded, width):
                inner = start + tl.arange(0, width)
                is_inner = (inner < block) & (origin + inner < out_features)
                part = _scaled(acc, s, row_scale, m, origin + inner, m < rows, is_inner, out_features)
                inside = (inner < block)[:, None] & (column < block)[None, :]
                transposed = tl.load(
                    matrix + column[None, :] * block + inner[:, None], mask=inside, other=0.0
                )
                v = tl.dot(part, transposed, v, input_precision="ieee")
        if bias is not None:
            v += to_float(tl.load(bias + n, mask=is_output, other=0.0))[None, :]
        inside = (m < rows)[:, None] & is_output[None, :]
        place = y + m[:, None].to(tl.int64) * out_features + n[None, :]
        tl.store(place, from_float(v, y.dtype.element_ty), mask=inside)


def finish_rows(acc: Tensor, s: Tensor, layer: LinearOperands, dtype: torch.dtype) -> Tensor:
    """Return y (M, N) of `dtype` from sums (M, N) int32 and scales s (M, 1)."""
    m, n = acc.shape
    y = torch.empty((m, n), dtype=dtype, device=acc.device)
    block, rotation = layer.block_out, layer.rotation_out
    tile = rotation_tile(block if rotation is not None else 64)
    stride = 0 if rotation is None or rotation.shape[0] == 1 else block * block
    _epilogue_kernel[(triton.cdiv(n, tile.block), triton.cdiv(m, ROTATED_ROWS))](
        *(acc, s, layer.row_scale, rotation, layer.bias, y, m, n, stride, *tile, ROTATED_ROWS),
        num_warps=4,
        num_stages=1,
        enable_fp_fusion=rotation is not None,  # as the GEMM's
    )
    return y
