"""What a kernel takes: the operands of a layer, and what one call adds to them.

`native/operands.hpp` declares the same fields in the same order, and loading the library compares the two
(`library`). Every word has eight bytes.
"""

from __future__ import annotations

import struct
from typing import NamedTuple, get_type_hints

import torch
from torch import Tensor

# As `Dtype` of native/operands.hpp numbers them.
DTYPES = {
    dtype: number
    for number, dtype in enumerate((torch.float32, torch.bfloat16, torch.float16, torch.int8, torch.uint8))
}

# What inputs, outputs and biases may be.
FLOATS = (torch.float32, torch.bfloat16, torch.float16)


class LinearOperands(NamedTuple):
    """What a kernel takes of a layer: tensors of known shape and dtype, others, and numbers.

    Shapes: K in_features, N out_features, G = ceil(K / block_in), B channels of a block.

    Attributes:
        smoothing: (K,) float32.
        perm: (K,) int32.
        act_scale: (K,) float32; None: a scale per row, found by the kernel.
        block_scale: (N, ceil(G / 2)) or (N, G) uint8.
        row_scale: (N, 1) float32.
        rotation_first: (G or 1, B, B) float32, before the permutation.
        rotation_in: (G or 1, B, B) float32.
        rotation_out: (blocks or 1, B, B) float32, to be undone.
        codes: (N, ceil(K / 2)) uint8 or (N, K) int8.
        bias: (N,) of one of `FLOATS`.
        activation_bits: of the codes of x.
        scale_bits: of a block scale, 4 or 8.
    """

    smoothing: Tensor | None
    perm: Tensor | None
    act_scale: Tensor | None
    block_scale: Tensor | None
    row_scale: Tensor | None
    rotation_first: Tensor | None
    rotation_in: Tensor | None
    rotation_out: Tensor | None
    codes: Tensor | None
    bias: Tensor | None
    block_in: int
    block_out: int
    activation_bits: int
    scale_bits: int

    def flatten(self) -> bytes:
        """Return what C reads: an address of a tensor whose shape and dtype are known; of others the length
        of the first dimension and the dtype, too. The tensors have to outlive the call.

        Raises:
            ValueError: a tensor is not contiguous.
        """
        # At each call of a layer: what takes a microsecond here is one of some twenty.
        flat = [0 if tensor is None else _address(tensor) for tensor in self[:_KNOWN]]
        for tensor in self[_KNOWN:_TENSORS]:
            flat += _ABSENT if tensor is None else (_address(tensor), tensor.size(0), DTYPES[tensor.dtype])
        return _PACKERS[LinearOperands].pack(*flat, *self[_TENSORS:])

    def outputs(self, in_features: int) -> int:
        """Return N.

        Raises:
            ValueError: the layer has no codes, or for another number of inputs.
        """
        codes = self.codes
        if codes is None:
            raise ValueError("a layer whose weight stays in floating point has no codes to multiply")
        if codes.shape[1] != (-(-in_features // 2) if codes.dtype == torch.uint8 else in_features):
            raise ValueError(f"codes {tuple(codes.shape)} do not fit {in_features} input channels")
        return codes.shape[0]


# Of the fields, how many are tensors of known shape and dtype, and how many are tensors.
_KNOWN, _TENSORS = 5, 10
_ABSENT = (0, 0, 0)


class LinearCall(NamedTuple):
    """What one call of a layer's kernel adds: addresses of what goes in and comes out, and sizes.

    Attributes:
        x: (M, K).
        h: (M, K) float32, x in the basis that is quantized.
        q: (M, K) int8.
        s: (M, 1) float32.
        acc: (M, N) int32.
        y: (M, N).
        scale_offset: what a block scale of 4 bits is stored less.
    """

    rows: int
    in_features: int
    out_features: int
    threads: int
    scale_offset: int
    smallest_scale: float
    x: int = 0
    x_dtype: int = 0
    h: int = 0
    q: int = 0
    s: int = 0
    acc: int = 0
    y: int = 0
    y_dtype: int = 0

    def flatten(self) -> bytes:
        """Return what C reads."""
        return _PACKERS[LinearCall].pack(*self)


class SearchCall(NamedTuple):
    """What a search for the codes and scales of a weight (N, K) takes: addresses and sizes; see `search`.

    Attributes:
        weight: (N, K).
        codes: (N, K) int8.
        block_scale: (N, G) uint8, left alone where there are shares.
        row_scale: (N, 1) float32.
        shares: of a row's range, to be tried; 0: block scales, counted down.
        tries: how many shares, or block scales.
    """

    weight: int
    weight_dtype: int
    codes: int
    block_scale: int
    row_scale: int
    shares: int
    out_features: int
    in_features: int
    block_in: int
    bits: int
    tries: int
    threads: int
    smallest_scale: float

    def flatten(self) -> bytes:
        """Return what C reads."""
        return _PACKERS[SearchCall].pack(*self)


Record = type[LinearOperands] | type[LinearCall] | type[SearchCall]


class Field(NamedTuple):
    """Where a field of a record lies."""

    name: str
    at: int
    bytes: int


def layout(record: Record) -> tuple[Field, ...]:
    """Return the fields of a record as C lays them out, and last the whole of it."""
    fields, at = [], 0
    for name, words in _words(record).items():
        fields.append(Field(name, at, 8 * len(words)))
        at += 8 * len(words)
    return (*fields, Field("all of it", 0, at))


def _words(record: Record) -> dict[str, str]:
    """The words of each field, as `struct` writes them."""
    words = {}
    for index, (name, kind) in enumerate(get_type_hints(record).items()):
        is_array = record is LinearOperands and _KNOWN <= index < _TENSORS
        words[name] = "d" if kind is float else "qqq" if is_array else "q"
    return words


def _address(tensor: Tensor) -> int:
    if not tensor.is_contiguous():
        raise ValueError(f"a tensor of shape {tuple(tensor.shape)} is not contiguous")
    return tensor.data_ptr()


_PACKERS: dict[Record, struct.Struct] = {
    record: struct.Struct("".join(_words(record).values()))
    for record in (LinearOperands, LinearCall, SearchCall)
}
