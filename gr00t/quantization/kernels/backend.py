"""Who computes a layer: what multiplies its codes, and what works around that.

    linear(x) = epilogue(*accumulate(prologue(x)))

Every kernel answers the same five questions about the same operands, to the same bits. A backend asks one of
them for all, in one call; or another one for the sums, so that tests compare these alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from gr00t.quantization.kernels import operators, torch_reference
from gr00t.quantization.kernels.operands import LinearOperands

# Long inputs are cut: the temporaries of thousands of tokens would not stay in the cache.
_ROWS_AT_A_TIME = 768


class Kernel(Protocol):
    """M rows, K in_features, N out_features; `layer` is what is taken of the layer.

    Attributes:
        STAGES: methods that may be timed, and what a profile calls them.
        takes_packed: the codes of `layer` are as they are stored; else an int8 each, times its block scale.
    """

    STAGES: ClassVar[Mapping[str, str]]
    takes_packed: ClassVar[bool]

    def rotate(self, x: Tensor, layer: LinearOperands) -> Tensor:
        """Return x (M, K) in the basis that is quantized, float32."""

    def prologue(self, x: Tensor, layer: LinearOperands) -> tuple[Tensor, Tensor]:
        """Return the codes (M, K) int8 of x (M, K), transformed, and their scale (M, 1) float32."""

    def accumulate(self, q: Tensor, layer: LinearOperands) -> Tensor:
        """Return the sums (M, N) int32, exact, of codes q (M, K) int8 and the layer's."""

    def epilogue(self, acc: Tensor, s: Tensor, layer: LinearOperands, dtype: torch.dtype) -> Tensor:
        """Return y (M, N) of `dtype` from the sums (M, N) and scales s (M, 1): restored, with its bias."""

    def linear(self, x: Tensor, layer: LinearOperands) -> Tensor:
        """Return y (M, N), of the dtype of x (M, K)."""


class OperatorKernel:
    """A compiled kernel: C++ on a CPU, Triton's on a GPU.

    Args:
        name: as the operators know it.
    """

    STAGES: ClassVar[Mapping[str, str]] = {
        "rotate": "permute+rotate",
        "prologue": "permute+rotate+quantize",
        "accumulate": "gemm",
        "epilogue": "scale+restore+bias",
        "linear": "whole layer",
    }
    takes_packed: ClassVar[bool] = True

    def __init__(self, name: str) -> None:
        self._name = name

    def rotate(self, x: Tensor, layer: LinearOperands) -> Tensor:
        """See `Kernel`."""
        return operators.ROTATE(x, *layer, self._name)

    def prologue(self, x: Tensor, layer: LinearOperands) -> tuple[Tensor, Tensor]:
        """See `Kernel`."""
        return operators.PROLOGUE(x, *layer.of_prologue(), self._name)

    def accumulate(self, q: Tensor, layer: LinearOperands) -> Tensor:
        """See `Kernel`."""
        return operators.ACCUMULATE(q, *layer, self._name)

    def epilogue(self, acc: Tensor, s: Tensor, layer: LinearOperands, dtype: torch.dtype) -> Tensor:
        """See `Kernel`."""
        return operators.EPILOGUE(acc, s, *layer.of_epilogue(), dtype, self._name)

    def linear(self, x: Tensor, layer: LinearOperands) -> Tensor:
        """See `Kernel`: one call, one parallel region."""
        return operators.LINEAR(x, *layer, self._name)


class TorchKernel:
    """PyTorch's operations.

    Args:
        name: of the sums, in `torch_reference.ACCUMULATORS`.
    """

    STAGES: ClassVar[Mapping[str, str]] = {
        "rotate": "permute+rotate",
        "quantize": "quantize",
        "accumulate": "gemm",
        "restore": "restore",
    }
    takes_packed: ClassVar[bool] = False

    def __init__(self, name: str) -> None:
        self._accumulate = torch_reference.ACCUMULATORS[name]

    def rotate(self, x: Tensor, layer: LinearOperands) -> Tensor:
        """See `Kernel`."""
        transforms = layer.smoothing, layer.rotation_first, layer.perm, layer.rotation_in
        return torch_reference.transform(x, *transforms)

    def quantize(self, h: Tensor, layer: LinearOperands) -> tuple[Tensor, Tensor]:
        """Return codes and scale of `h` (M, K)."""
        return torch_reference.quantize_input(h, layer)

    def prologue(self, x: Tensor, layer: LinearOperands) -> tuple[Tensor, Tensor]:
        """See `Kernel`."""
        return self.quantize(self.rotate(x, layer), layer)

    def accumulate(self, q: Tensor, layer: LinearOperands) -> Tensor:
        """See `Kernel`."""
        assert layer.codes is not None
        return self._accumulate(q, layer.codes)

    def restore(self, y: Tensor, layer: LinearOperands) -> Tensor:
        """Return y (M, N) in its own basis."""
        return torch_reference.restore_output(y, layer)

    def epilogue(self, acc: Tensor, s: Tensor, layer: LinearOperands, dtype: torch.dtype) -> Tensor:
        """See `Kernel`."""
        assert layer.row_scale is not None
        # In place: a fresh tensor of some megabytes costs more in page faults than its arithmetic.
        y = self.restore(acc.float().mul_(s).mul_(layer.row_scale.T), layer)
        return (y if layer.bias is None else y.add_(layer.bias)).to(dtype)

    def linear(self, x: Tensor, layer: LinearOperands) -> Tensor:
        """See `Kernel`."""
        return in_cuts(lambda rows: _one_after_the_other(self, self, rows, layer), x)


@dataclasses.dataclass
class Backend:
    """The two kernels of a layer, and why these.

    Attributes:
        around: for what comes before and after the sums.
        sums: for the sums; the same object as `around` where one call does it all.
        transformer: name of `around`.
        accumulator: name of `sums`.
    """

    around: Kernel
    sums: Kernel
    transformer: str
    accumulator: str
    transformer_reason: str = "asked for by name"
    accumulator_reason: str = "asked for by name"

    @property
    def takes_packed(self) -> bool:
        """See `Kernel`."""
        return self.sums.takes_packed

    def rotate(self, x: Tensor, layer: LinearOperands) -> Tensor:
        """See `Kernel`."""
        return self.around.rotate(x, layer)

    def prologue(self, x: Tensor, layer: LinearOperands) -> tuple[Tensor, Tensor]:
        """See `Kernel`."""
        return self.around.prologue(x, layer)

    def accumulate(self, q: Tensor, layer: LinearOperands) -> Tensor:
        """See `Kernel`."""
        return self.sums.accumulate(q, layer)

    def epilogue(self, acc: Tensor, s: Tensor, layer: LinearOperands, dtype: torch.dtype) -> Tensor:
        """See `Kernel`."""
        return self.around.epilogue(acc, s, layer, dtype)

    def linear(self, x: Tensor, layer: LinearOperands) -> Tensor:
        """See `Kernel`."""
        if self.around is self.sums:
            return self.around.linear(x, layer)
        return in_cuts(lambda rows: _one_after_the_other(self.around, self.sums, rows, layer), x)


def _one_after_the_other(around: Kernel, sums: Kernel, x: Tensor, layer: LinearOperands) -> Tensor:
    """Return y (M, N) for x (M, K): prologue, sums and epilogue."""
    q, s = around.prologue(x, layer)
    return around.epilogue(sums.accumulate(q, layer), s, layer, x.dtype)


def in_cuts(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return `function(x)` for x (M, K), by runs of rows that fit the cache."""
    rows = x.shape[0]
    if rows <= _ROWS_AT_A_TIME:
        return function(x)
    return torch.cat([function(cut) for cut in x.tensor_split(-(-rows // _ROWS_AT_A_TIME))])
