"""The kernels as PyTorch operators: eager, under `torch.compile` and with `meta` tensors.

    linear(x) = rear(*accumulate(front(x)))      in one call and one parallel region, to the same bits

Letters: M rows, K in_features, N out_features. Tensors are, but for the first, contiguous. On a CPU `kernel`
is a name in `library.loaded()`; on a CUDA device it is "triton", whose functions are in `triton.launch`. What
the rest is `DuQuantLinear` says, whose buffers they are.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gr00t.quantization.kernels.choice import TRITON
from gr00t.quantization.kernels.library import Arguments, NativeKernelError, call
from gr00t.quantization.numerics.quantizers import SMALLEST_SCALE
from gr00t.quantization.numerics.storage import BLOCK_SCALE_OFFSET

DTYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}


def rotate(
    x: Tensor,
    smoothing: Tensor | None,
    rotation_first: Tensor | None,
    perm: Tensor | None,
    rotation_in: Tensor | None,
    block_in: int,
    kernel: str,
) -> Tensor:
    """Return x (M, K) in the basis that is quantized, float32."""
    x = x.contiguous()
    h = torch.empty(x.shape, dtype=torch.float32)
    arguments = _sizes(x.shape[0], x.shape[1], 0)
    _front(arguments, x, smoothing, rotation_first, perm, rotation_in, None, block_in, 8)
    arguments.h = h.data_ptr()
    _run("rotate", kernel, arguments)
    return h


def front(
    x: Tensor,
    smoothing: Tensor | None,
    rotation_first: Tensor | None,
    perm: Tensor | None,
    rotation_in: Tensor | None,
    act_scale: Tensor | None,
    block_in: int,
    activation_bits: int,
    kernel: str,
) -> tuple[Tensor, Tensor]:
    """Return the codes (M, K) int8 of x (M, K), transformed, and their scale (M, 1) float32."""
    x = x.contiguous()
    q, s = torch.empty(x.shape, dtype=torch.int8), torch.empty((x.shape[0], 1), dtype=torch.float32)
    arguments = _sizes(x.shape[0], x.shape[1], 0)
    _front(arguments, x, smoothing, rotation_first, perm, rotation_in, act_scale, block_in, activation_bits)
    arguments.q, arguments.s = q.data_ptr(), s.data_ptr()
    _run("front", kernel, arguments)
    return q, s


def accumulate(
    q: Tensor, codes: Tensor, block_scale: Tensor | None, scale_bits: int, block_in: int, kernel: str
) -> Tensor:
    """Return the sums (M, N) int32 of codes q (M, K) int8 and a packed weight; `scale_bits` is 4 or 8."""
    q = q.contiguous()
    acc = torch.empty((q.shape[0], codes.shape[0]), dtype=torch.int32)
    arguments = _sizes(q.shape[0], q.shape[1], codes.shape[0])
    arguments.block_in = block_in
    _weight(arguments, codes, block_scale, scale_bits)
    arguments.q, arguments.acc = q.data_ptr(), acc.data_ptr()
    _run("accumulate", kernel, arguments)
    return acc


def rear(
    acc: Tensor,
    s: Tensor,
    row_scale: Tensor,
    rotation_out: Tensor | None,
    bias: Tensor | None,
    block_out: int,
    dtype: torch.dtype,
    kernel: str,
) -> Tensor:
    """Return y (M, N) of `dtype` from the sums (M, N) int32 and the scales s (M, 1)."""
    acc, s = acc.contiguous(), s.contiguous()
    y = torch.empty(acc.shape, dtype=dtype)
    arguments = _sizes(acc.shape[0], 0, acc.shape[1])
    _rear(arguments, row_scale, rotation_out, bias, block_out, y)
    arguments.acc, arguments.s = acc.data_ptr(), s.data_ptr()
    _run("rear", kernel, arguments)
    return y


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
    kernel: str,
) -> Tensor:
    """Return the whole layer's y (M, N) for x (M, K), of its dtype."""
    x = x.contiguous()
    y = torch.empty((x.shape[0], codes.shape[0]), dtype=x.dtype)
    arguments = _sizes(x.shape[0], x.shape[1], codes.shape[0])
    _front(arguments, x, smoothing, rotation_first, perm, rotation_in, act_scale, block_in, activation_bits)
    _weight(arguments, codes, block_scale, scale_bits)
    _rear(arguments, row_scale, rotation_out, bias, block_out, y)
    _run("linear", kernel, arguments)
    return y


def _rotate_shape(x: Tensor, *rest: object) -> Tensor:
    return x.new_empty(x.shape, dtype=torch.float32)


def _front_shape(x: Tensor, *rest: object) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape, dtype=torch.int8), x.new_empty((x.shape[0], 1), dtype=torch.float32)


def _accumulate_shape(q: Tensor, codes: Tensor, *rest: object) -> Tensor:
    return q.new_empty((q.shape[0], codes.shape[0]), dtype=torch.int32)


def _rear_shape(
    acc: Tensor,
    s: Tensor,
    row_scale: Tensor,
    rotation_out: Tensor | None,
    bias: Tensor | None,
    block_out: int,
    dtype: torch.dtype,
    kernel: str,
) -> Tensor:
    return acc.new_empty(acc.shape, dtype=dtype)


def _linear_shape(
    x: Tensor,
    smoothing: Tensor | None,
    rotation_first: Tensor | None,
    perm: Tensor | None,
    rotation_in: Tensor | None,
    act_scale: Tensor | None,
    block_in: int,
    activation_bits: int,
    codes: Tensor,
    *rest: object,
) -> Tensor:
    return x.new_empty((x.shape[0], codes.shape[0]))


def _sizes(rows: int, in_features: int, out_features: int) -> Arguments:
    return Arguments(torch.get_num_threads(), rows, in_features, out_features)


def _front(
    arguments: Arguments,
    x: Tensor,
    smoothing: Tensor | None,
    rotation_first: Tensor | None,
    perm: Tensor | None,
    rotation_in: Tensor | None,
    act_scale: Tensor | None,
    block_in: int,
    activation_bits: int,
) -> None:
    arguments.x, arguments.x_dtype, arguments.block_in = x.data_ptr(), DTYPES[x.dtype], block_in
    if smoothing is not None:
        arguments.smoothing = _pointer(smoothing)
    if rotation_first is not None:
        arguments.rotation_first, arguments.first_blocks = _pointer(rotation_first), rotation_first.shape[0]
    if perm is not None:
        arguments.perm = _pointer(perm)
    if rotation_in is not None:
        arguments.rotation_in, arguments.in_blocks = _pointer(rotation_in), rotation_in.shape[0]
    if act_scale is not None:
        arguments.act_scale = _pointer(act_scale)
    half = 1 << (activation_bits - 1)
    arguments.qmin, arguments.qmax, arguments.smallest_scale = -half, half - 1, SMALLEST_SCALE


def _weight(arguments: Arguments, codes: Tensor, block_scale: Tensor | None, scale_bits: int) -> None:
    code_bits = 4 if codes.dtype == torch.uint8 else 8
    if codes.shape[1] != (arguments.in_features * code_bits + 7) // 8:
        raise ValueError(f"codes {tuple(codes.shape)} do not fit {arguments.in_features} input channels")
    arguments.codes, arguments.code_bits = _pointer(codes), code_bits
    if block_scale is not None:
        arguments.block_scale, arguments.scale_bits = _pointer(block_scale), scale_bits
        arguments.scale_offset = BLOCK_SCALE_OFFSET


def _rear(
    arguments: Arguments,
    row_scale: Tensor,
    rotation_out: Tensor | None,
    bias: Tensor | None,
    block_out: int,
    y: Tensor,
) -> None:
    arguments.row_scale = _pointer(row_scale)
    if rotation_out is not None:
        arguments.rotation_out, arguments.out_blocks = _pointer(rotation_out), rotation_out.shape[0]
        arguments.block_out = block_out
    if bias is not None:
        arguments.bias, arguments.bias_dtype = _pointer(bias), DTYPES[bias.dtype]
    arguments.y, arguments.y_dtype = y.data_ptr(), DTYPES[y.dtype]


def _pointer(tensor: Tensor) -> int:
    if not tensor.is_contiguous():
        raise ValueError(f"a buffer of shape {tuple(tensor.shape)} is not contiguous")
    return tensor.data_ptr()


def _run(part: str, kernel: str, arguments: Arguments) -> None:
    if arguments.rows:
        call(part, kernel, arguments)


def _on_cpu(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, or its namesake of Triton where that is asked for by name: tests do, interpreted."""

    def run(*arguments: Any) -> Any:
        if arguments[-1] == TRITON:
            return _launcher(function.__name__)(*arguments[:-1])
        return function(*arguments)

    return run


def _on_cuda(name: str) -> Callable[..., Any]:
    def run(*arguments: Any) -> Any:
        if arguments[-1] != TRITON:
            raise NativeKernelError(
                f"the kernel {arguments[-1]!r} is not for CUDA devices: expected {TRITON!r}"
            )
        return _launcher(name)(*arguments[:-1])

    return run


def _launcher(name: str) -> Callable[..., Any]:
    """Triton is imported by the first call: it takes a second, and is not everywhere."""
    module = importlib.import_module("gr00t.quantization.kernels.triton.launch")
    return getattr(module, name)


def _define(namespace: str) -> torch.library.Library:
    """Make the functions above operators: `torch.ops.gr00t_duquant.linear` and so on."""
    library = torch.library.Library(namespace, "DEF")
    for function, shape in (
        (rotate, _rotate_shape),
        (front, _front_shape),
        (accumulate, _accumulate_shape),
        (rear, _rear_shape),
        (linear, _linear_shape),
    ):
        name = function.__name__
        library.define(name + torch.library.infer_schema(function, mutates_args=()))
        library.impl(name, _on_cpu(function), "CPU")
        library.impl(name, _on_cuda(name), "CUDA")
        torch.library.register_fake(f"{namespace}::{name}", shape, lib=library)
    return library


# Kept: the operators vanish with it. `torch.library.custom_op` would do the same in fewer lines, but a call
# through it took 31 us where this took 20 (and the function itself 14).
_OPERATORS = _define("gr00t_duquant")
