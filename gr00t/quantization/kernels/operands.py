"""What a kernel takes: the operands of a layer, and what one call adds to them.

`native/operands.hpp` declares the same fields in the same order, and loading the library compares the two
(`library`). Every word has eight bytes.
"""

from __future__ import annotations

import struct
from typing import NamedTuple, get_type_hints

import torch
from torch import Tensor

from gr00t.quantization.numerics.packing import packed_bytes

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
        block_scale: (N, packed_bytes(G, scale_bits)) uint8.
        row_scale: (N, 1) float32.
        rotation_first: (G or 1, B, B) float32, before the permutation.
        rotation_in: (G or 1, B, B) float32.
        rotation_out: (blocks or 1, B, B) float32, to be undone.
        codes: (N, packed_bytes(K, code_bits)) uint8 or int8.
        bias: (N,) of one of `FLOATS`.
        activation_bits: of the codes of x.
        code_bits: of a code in `codes`, 2 to 8.
        scale_bits: of a block scale in `block_scale`, 1 to 6; 0 where there are none.
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
    code_bits: int
    scale_bits: int

    def of_prologue(self) -> LinearOperands:
        """Return what a prologue takes, and nothing else: less to flatten."""
        smoothing, perm, act_scale, _, _, first, second, *_ = self
        return LinearOperands(smoothing, perm, act_scale, *_NONE[:2], first, second, *_NONE, *self[10:])

    def of_epilogue(self) -> LinearOperands:
        """Return what an epilogue takes, and nothing else."""
        return LinearOperands(*_NONE, None, self[4], *_NONE[:2], self[7], None, self[9], *self[10:])

    def flatten(self) -> bytes:
        """Return what C reads: an address of a tensor whose shape and dtype are known; of others the length
        of the first dimension and the dtype, too. The tensors have to outlive the call.

        Raises:
            ValueError: a tensor is not contiguous.
        """
        # At each call of a layer: what takes a microsecond here is one of some twenty.
        flat = []
        for tensor in self[:5]:
            if tensor is None:
                flat.append(0)
            elif tensor.is_contiguous():
                flat.append(tensor.data_ptr())
            else:
                raise _not_contiguous(tensor)
        for tensor in self[5:10]:
            if tensor is None:
                flat += _ABSENT
            elif tensor.is_contiguous():
                flat += (tensor.data_ptr(), tensor.size(0), DTYPES[tensor.dtype])
            else:
                raise _not_contiguous(tensor)
        return _PACKERS[LinearOperands].pack(*flat, *self[10:])

    def outputs(self, in_features: int) -> int:
        """Return N.

        Raises:
            ValueError: the layer has no codes, or for another number of inputs.
        """
        codes = self.codes
        if codes is None:
            raise ValueError("a layer whose weight stays in floating point has no codes to multiply")
        if codes.shape[1] != packed_bytes(in_features, self.code_bits):
            raise ValueError(f"codes {tuple(codes.shape)} do not fit {in_features} input channels")
        return codes.shape[0]


_ABSENT = (0, 0, 0)
_NONE = (None, None, None)


class LinearCall(NamedTuple):
    """What one call of a layer's kernel adds: addresses of what goes in and comes out, and sizes.

    Attributes:
        x: (M, K).
        h: (M, K) float32, x in the basis that is quantized.
        q: (M, K) int8.
        s: (M, 1) float32.
        acc: (M, N) int32.
        y: (M, N).
    """

    rows: int
    in_features: int
    out_features: int
    threads: int
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


class FeedbackCall(NamedTuple):
    """What rounding a panel of P channels and N rows with error feedback takes: addresses and sizes.

    Attributes:
        own: (P, N) float32, errors afterwards.
        target: (P, N) float32.
        ratios: (P, P) float32, `stride` numbers from row to row.
        weights: (P,) float32.
        codes: (P, N) int8.
        block_scale: (ceil(P / block_in), N) uint8.
        rows: N, a whole number of vectors of any kernel.
        largest: block scale allowed.
        tries: how many block scales, counted down.
    """

    own: int
    target: int
    ratios: int
    weights: int
    codes: int
    block_scale: int
    rows: int
    channels: int
    stride: int
    block_in: int
    bits: int
    largest: int
    tries: int
    threads: int

    def flatten(self) -> bytes:
        """Return what C reads."""
        return _PACKERS[FeedbackCall].pack(*self)


Record = type[LinearOperands] | type[LinearCall] | type[SearchCall] | type[FeedbackCall]


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
        is_array = record is LinearOperands and 5 <= index < 10
        words[name] = "d" if kind is float else "qqq" if is_array else "q"
    return words


def _not_contiguous(tensor: Tensor) -> ValueError:
    return ValueError(f"a tensor of shape {tuple(tensor.shape)} is not contiguous")


_PACKERS: dict[Record, struct.Struct] = {
    record: struct.Struct("".join(_words(record).values()))
    for record in (LinearOperands, LinearCall, SearchCall, FeedbackCall)
}
