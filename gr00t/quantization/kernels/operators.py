"""The kernels as PyTorch operators: eager, under `torch.compile` and with `meta` tensors.

    linear(x) = epilogue(*accumulate(prologue(x)))     in one call and one parallel region, to the same bits

Every operator takes the fields of `LinearOperands` one by one, between its tensors and the name of a kernel:
on a CPU a name in `library.loaded()`, on a CUDA device "triton", whose functions are in `triton.launch`.
Letters: M rows, K in_features, N out_features.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple, get_type_hints

import torch
from torch import Tensor

from gr00t.quantization.kernels.library import NativeKernelError, call
from gr00t.quantization.kernels.operands import DTYPES, LinearCall, LinearOperands
from gr00t.quantization.numerics.quantizers import SMALLEST_SCALE
from gr00t.quantization.settings.options import TRITON


def rotate(x: Tensor, layer: LinearOperands, kernel: str) -> Tensor:
    """Return x (M, K) in the basis that is quantized, float32."""
    x, (m, k) = x.contiguous(), x.shape
    h = torch.empty((m, k), dtype=torch.float32)
    if m:
        given = {"x": x.data_ptr(), "x_dtype": DTYPES[x.dtype], "h": h.data_ptr()}
        call("rotate", kernel, layer, LinearCall(m, k, 0, *_settings(), **given))
    return h


def prologue(x: Tensor, layer: LinearOperands, kernel: str) -> tuple[Tensor, Tensor]:
    """Return the codes (M, K) int8 of x (M, K), transformed, and their scale (M, 1) float32."""
    x, (m, k) = x.contiguous(), x.shape
    q, s = torch.empty((m, k), dtype=torch.int8), torch.empty((m, 1), dtype=torch.float32)
    if m:
        given = {"x": x.data_ptr(), "x_dtype": DTYPES[x.dtype], "q": q.data_ptr(), "s": s.data_ptr()}
        call("prologue", kernel, layer, LinearCall(m, k, 0, *_settings(), **given))
    return q, s


def accumulate(q: Tensor, layer: LinearOperands, kernel: str) -> Tensor:
    """Return the sums (M, N) int32 of codes q (M, K) int8 and the layer's."""
    q, (m, k) = q.contiguous(), q.shape
    n = layer.outputs(k)
    acc = torch.empty((m, n), dtype=torch.int32)
    if m:
        given = {"q": q.data_ptr(), "acc": acc.data_ptr()}
        call("accumulate", kernel, layer, LinearCall(m, k, n, *_settings(), **given))
    return acc


def epilogue(acc: Tensor, s: Tensor, layer: LinearOperands, dtype: torch.dtype, kernel: str) -> Tensor:
    """Return y (M, N) of `dtype` from the sums (M, N) int32 and the scales s (M, 1)."""
    acc, s, (m, n) = acc.contiguous(), s.contiguous(), acc.shape
    y = torch.empty((m, n), dtype=dtype)
    if m:
        given = {"s": s.data_ptr(), "acc": acc.data_ptr(), "y": y.data_ptr(), "y_dtype": DTYPES[dtype]}
        call("epilogue", kernel, layer, LinearCall(m, 0, n, *_settings(), **given))
    return y


def linear(x: Tensor, layer: LinearOperands, kernel: str) -> Tensor:
    """Return the whole layer's y (M, N) for x (M, K), of its dtype."""
    x, (m, k) = x.contiguous(), x.shape
    n, dtype = layer.outputs(k), DTYPES[x.dtype]
    y = torch.empty((m, n), dtype=x.dtype)
    if m:
        given = {"x": x.data_ptr(), "x_dtype": dtype, "y": y.data_ptr(), "y_dtype": dtype}
        call("linear", kernel, layer, LinearCall(m, k, n, *_settings(), **given))
    return y


def _settings() -> tuple[int, float]:
    return torch.get_num_threads(), SMALLEST_SCALE


def _rotate_shape(x: Tensor, layer: LinearOperands, kernel: str) -> Tensor:
    return x.new_empty(x.shape, dtype=torch.float32)


def _prologue_shape(x: Tensor, layer: LinearOperands, kernel: str) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape, dtype=torch.int8), x.new_empty((x.shape[0], 1), dtype=torch.float32)


def _accumulate_shape(q: Tensor, layer: LinearOperands, kernel: str) -> Tensor:
    return q.new_empty((q.shape[0], layer.outputs(q.shape[1])), dtype=torch.int32)


def _epilogue_shape(acc: Tensor, s: Tensor, layer: LinearOperands, dtype: torch.dtype, kernel: str) -> Tensor:
    return acc.new_empty(acc.shape, dtype=dtype)


def _linear_shape(x: Tensor, layer: LinearOperands, kernel: str) -> Tensor:
    return x.new_empty((x.shape[0], layer.outputs(x.shape[1])))


class _Operator(NamedTuple):
    """An operator: what it is on a CPU and for shapes alone, and its signature around the layer's fields."""

    run: Callable[..., Any]
    shape: Callable[..., Any]
    tensors: tuple[str, ...]
    rest: str
    result: str


_OPERATORS = (
    _Operator(rotate, _rotate_shape, ("x",), "", "Tensor"),
    _Operator(prologue, _prologue_shape, ("x",), "", "(Tensor, Tensor)"),
    _Operator(accumulate, _accumulate_shape, ("q",), "", "Tensor"),
    _Operator(epilogue, _epilogue_shape, ("acc", "s"), "ScalarType dtype, ", "Tensor"),
    _Operator(linear, _linear_shape, ("x",), "", "Tensor"),
)


def _schema(operator: _Operator) -> str:
    tensors = "".join(f"Tensor {name}, " for name in operator.tensors)
    fields = "".join(
        f"{'int' if kind is int else 'Tensor?'} {name}, "
        for name, kind in get_type_hints(LinearOperands).items()
    )
    return f"{operator.run.__name__}({tensors}{fields}{operator.rest}str kernel) -> {operator.result}"


def _of_layer(operator: _Operator, by_kernel: Callable[[str], Callable[..., Any]]) -> Callable[..., Any]:
    """What the operator is: called with the fields of the layer one by one, by the kernel that is named."""
    start = len(operator.tensors)
    end = start + len(LinearOperands._fields)

    def run(*arguments: Any) -> Any:
        layer = LinearOperands(*arguments[start:end])
        return by_kernel(arguments[-1])(*arguments[:start], layer, *arguments[end:])

    return run


def _on_cpu(operator: _Operator) -> Callable[[str], Callable[..., Any]]:
    """The operator's function, or its namesake of Triton where that is asked for: tests do, interpreted."""
    return lambda kernel: _triton(operator) if kernel == TRITON else operator.run


def _on_cuda(operator: _Operator) -> Callable[[str], Callable[..., Any]]:
    def by_kernel(kernel: str) -> Callable[..., Any]:
        if kernel != TRITON:
            raise NativeKernelError(f"the kernel {kernel!r} is not for CUDA devices: expected {TRITON!r}")
        return _triton(operator)

    return by_kernel


def _for_shapes(operator: _Operator) -> Callable[[str], Callable[..., Any]]:
    return lambda kernel: operator.shape


def _triton(operator: _Operator) -> Callable[..., Any]:
    """Triton is imported by the first call: it takes a second, and is not everywhere."""
    module = importlib.import_module("gr00t.quantization.kernels.triton.launch")
    function = getattr(module, operator.run.__name__)
    return lambda *arguments: function(*arguments[:-1])


def _define(namespace: str) -> torch.library.Library:
    """Make the functions above operators: `torch.ops.gr00t_duquant.linear` and so on."""
    library = torch.library.Library(namespace, "DEF")
    for operator in _OPERATORS:
        name = operator.run.__name__
        library.define(_schema(operator))
        library.impl(name, _of_layer(operator, _on_cpu(operator)), "CPU")
        library.impl(name, _of_layer(operator, _on_cuda(operator)), "CUDA")
        torch.library.register_fake(
            f"{namespace}::{name}", _of_layer(operator, _for_shapes(operator)), lib=library
        )
    return library


# Kept: the operators vanish with it. `torch.library.custom_op` would do the same in fewer lines, but a call
# through it took 31 us where this took 20 (and the function itself 14).
_LIBRARY = _define("gr00t_duquant")

# Found once: each look-up of an operator and its overload is half a microsecond.
ROTATE, PROLOGUE, ACCUMULATE, EPILOGUE, LINEAR = (
    getattr(torch.ops.gr00t_duquant, operator.run.__name__).default for operator in _OPERATORS
)
