"""The operators of `kernels.operators` by Triton's kernels: the same arguments, but for the kernel's name.

No call waits for the GPU, and no shape depends on data, so a CUDA graph can capture them.
"""

from __future__ import annotations

import contextlib

import torch
import triton
from torch import Tensor

from gr00t.quantization.kernels.operands import LinearOperands
from gr00t.quantization.kernels.triton.epilogue import finish_rows
from gr00t.quantization.kernels.triton.gemm import Finish, multiply
from gr00t.quantization.kernels.triton.numbers import to_float
from gr00t.quantization.kernels.triton.prologue import quantize_rows, rotate_blocks
from gr00t.quantization.kernels.triton.tiles import gemm_tile, restores_in_tile, rotates_in_row

# What an interpreter has: any number, the results are the same.
_INTERPRETED_PROCESSORS = 4


def is_interpreted() -> bool:
    """Whether the kernels were read with TRITON_INTERPRET=1 in the environment, and so run on a CPU."""
    return not isinstance(to_float, triton.JITFunction)


def rotate(x: Tensor, layer: LinearOperands) -> Tensor:
    """Return x (M, K) in the basis that is quantized, float32."""
    x = x.contiguous()
    if not x.shape[0]:
        return torch.empty(x.shape, dtype=torch.float32, device=x.device)
    with _on_device_of(x):
        x, layer = _rotated_first(x, layer)
        return rotate_blocks(x, layer.smoothing, layer.perm, layer.rotation_in, layer.block_in)


def prologue(x: Tensor, layer: LinearOperands, is_split: bool = False) -> tuple[Tensor, Tensor]:
    """Return the codes (M, K) int8 of x (M, K), transformed, and their scale (M, 1) float32.

    Args:
        x: input.
        layer: whose.
        is_split: as the GEMM of the whole layer reads them (`prologue.quantize_rows`).
    """
    x = x.contiguous()
    m, k = x.shape
    if not m:
        return x.new_empty((0, k), dtype=torch.int8), x.new_empty((0, 1), dtype=torch.float32)
    with _on_device_of(x):
        x, layer = _rotated_first(x, layer)
        rotation = layer.rotation_in
        if rotation is not None and not rotates_in_row(rotation.shape[0], layer.block_in):
            x = rotate_blocks(x, layer.smoothing, layer.perm, rotation, layer.block_in)
            layer = layer._replace(smoothing=None, perm=None, rotation_in=None)
        return quantize_rows(x, layer, is_split)


def accumulate(q: Tensor, layer: LinearOperands) -> Tensor:
    """Return the sums (M, N) int32 of codes q (M, K) int8 and the layer's."""
    q = q.contiguous()
    m, n = q.shape[0], layer.outputs(q.shape[1])
    if not m:
        return q.new_empty((0, n), dtype=torch.int32)
    with _on_device_of(q):
        return multiply(q, False, layer, q.shape[1], gemm_tile(m, n, _processors(q)))


def epilogue(acc: Tensor, s: Tensor, layer: LinearOperands, dtype: torch.dtype) -> Tensor:
    """Return y (M, N) of `dtype` from the sums (M, N) int32 and the scales s (M, 1)."""
    acc, s = acc.contiguous(), s.contiguous()
    if not acc.shape[0]:
        return acc.new_empty(acc.shape, dtype=dtype)
    with _on_device_of(acc):
        return finish_rows(acc, s, layer, dtype)


def linear(x: Tensor, layer: LinearOperands) -> Tensor:
    """Return the whole layer's y (M, N) for x (M, K), of its dtype."""
    (m, k), n = x.shape, layer.outputs(x.shape[1])
    if not m:
        return x.new_empty((0, n))
    q, s = prologue(x, layer, is_split=True)
    rotation = layer.rotation_out
    with _on_device_of(x):
        if rotation is None or restores_in_tile(rotation.shape[0], layer.block_out):
            tile = gemm_tile(m, n, _processors(x), 1 if rotation is None else layer.block_out)
            return multiply(q, True, layer, k, tile, Finish(s, x.dtype))
        acc = multiply(q, True, layer, k, gemm_tile(m, n, _processors(x)))
    return epilogue(acc, s, layer, x.dtype)


def _rotated_first(x: Tensor, layer: LinearOperands) -> tuple[Tensor, LinearOperands]:
    """x after its smoothing and first rotation, where it has one, and what then is left to do."""
    if layer.rotation_first is None:
        return x, layer
    x = rotate_blocks(x, layer.smoothing, None, layer.rotation_first, layer.block_in)
    return x, layer._replace(smoothing=None, rotation_first=None)


def _processors(tensor: Tensor) -> int:
    if not tensor.is_cuda:
        return _INTERPRETED_PROCESSORS
    return torch.cuda.get_device_properties(tensor.device).multi_processor_count


def _on_device_of(tensor: Tensor) -> contextlib.AbstractContextManager[object]:
    """Triton launches on the current device, whichever the tensors are on."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext()
