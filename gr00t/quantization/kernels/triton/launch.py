"""The operators of `kernels.operators` by Triton's kernels: the same arguments, but for the kernel's name.

No call waits for the GPU, and no shape depends on data, so a CUDA graph can capture them.
"""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor

from gr00t.quantization.kernels.triton.front import quantize_rows, rotate_blocks
from gr00t.quantization.kernels.triton.gemm import multiply
from gr00t.quantization.kernels.triton.rear import finish_rows
from gr00t.quantization.kernels.triton.tiles import gemm_tile, restores_in_tile, rotates_in_row

# What an interpreter has: any number, the results are the same.
_INTERPRETED_PROCESSORS = 4


def rotate(
    x: Tensor,
    smoothing: Tensor | None,
    rotation_first: Tensor | None,
    perm: Tensor | None,
    rotation_in: Tensor | None,
    block_in: int,
) -> Tensor:
    """Return x (M, K) in the basis that is quantized, float32."""
    x = x.contiguous()
    if not x.shape[0]:
        return torch.empty(x.shape, dtype=torch.float32, device=x.device)
    with _on_device_of(x):
        if rotation_first is not None:
            x, smoothing = rotate_blocks(x, smoothing, None, rotation_first, block_in), None
        return rotate_blocks(x, smoothing, perm, rotation_in, block_in)


def front(
    x: Tensor,
    smoothing: Tensor | None,
    rotation_first: Tensor | None,
    perm: Tensor | None,
    rotation_in: Tensor | None,
    act_scale: Tensor | None,
    block_in: int,
    activation_bits: int,
    is_split: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return the codes (M, K) int8 of x (M, K), transformed, and their scale (M, 1) float32.

    Args:
        is_split: as the GEMM of the whole layer reads them (`front.quantize_rows`).
    """
    x = x.contiguous()
    m, k = x.shape
    if not m:
        return x.new_empty((0, k), dtype=torch.int8), x.new_empty((0, 1), dtype=torch.float32)
    with _on_device_of(x):
        if rotation_first is not None:
            x, smoothing = rotate_blocks(x, smoothing, None, rotation_first, block_in), None
        if rotation_in is not None and not rotates_in_row(rotation_in.shape[0], block_in):
            x = rotate_blocks(x, smoothing, perm, rotation_in, block_in)
            smoothing = perm = rotation_in = None
        return quantize_rows(x, smoothing, perm, rotation_in, act_scale, block_in, activation_bits, is_split)


def accumulate(
    q: Tensor, codes: Tensor, block_scale: Tensor | None, scale_bits: int, block_in: int
) -> Tensor:
    """Return the sums (M, N) int32 of codes q (M, K) int8 and a packed weight; `scale_bits` is 4 or 8."""
    q = q.contiguous()
    (m, k), n = q.shape, codes.shape[0]
    if codes.shape[1] != (-(-k // 2) if codes.dtype == torch.uint8 else k):
        raise ValueError(f"codes {tuple(codes.shape)} do not fit {k} input channels")
    if not m:
        return q.new_empty((0, n), dtype=torch.int32)
    with _on_device_of(q):
        tile = gemm_tile(m, n, _processors(q))
        return multiply(q, False, codes, block_scale, scale_bits, k, block_in, tile)


def rear(
    acc: Tensor,
    s: Tensor,
    row_scale: Tensor,
    rotation_out: Tensor | None,
    bias: Tensor | None,
    block_out: int,
    dtype: torch.dtype,
) -> Tensor:
    """Return y (M, N) of `dtype` from the sums (M, N) int32 and the scales s (M, 1)."""
    acc, s = acc.contiguous(), s.contiguous()
    if not acc.shape[0]:
        return acc.new_empty(acc.shape, dtype=dtype)
    with _on_device_of(acc):
        return finish_rows(acc, s, row_scale, rotation_out, bias, block_out, dtype)


def linear(
    x: Tensor,
    smoothing: Tensor | None,
    rotation_first: Tensor | None,
    perm: Tensor | None,
    rotation_in: Tensor | None,
    act_scale: Tensor | None,
    block_in: int,
    activation_bits: int,
    codes: Tensor,
    block_scale: Tensor | None,
    scale_bits: int,
    row_scale: Tensor,
    rotation_out: Tensor | None,
    bias: Tensor | None,
    block_out: int,
) -> Tensor:
    """Return the whole layer's y (M, N) for x (M, K), of its dtype."""
    (m, k), n = x.shape, codes.shape[0]
    if not m:
        return x.new_empty((0, n))
    transforms = smoothing, rotation_first, perm, rotation_in, act_scale, block_in, activation_bits
    q, s = front(x, *transforms, is_split=True)
    weight = codes, block_scale, scale_bits, k, block_in
    with _on_device_of(x):
        if rotation_out is None or restores_in_tile(rotation_out.shape[0], block_out):
            tile = gemm_tile(m, n, _processors(x), 1 if rotation_out is None else block_out)
            finish = s, row_scale, rotation_out, bias, block_out, x.dtype
            return multiply(q, True, *weight, tile, finish)
        acc = multiply(q, True, *weight, gemm_tile(m, n, _processors(x)))
    return rear(acc, s, row_scale, rotation_out, bias, block_out, x.dtype)


def _processors(tensor: Tensor) -> int:
    if not tensor.is_cuda:
        return _INTERPRETED_PROCESSORS
    return torch.cuda.get_device_properties(tensor.device).multi_processor_count


def _on_device_of(tensor: Tensor) -> contextlib.AbstractContextManager[object]:
    """Triton launches on the current device, whichever the tensors are on."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext()
