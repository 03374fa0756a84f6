"""Two 4-bit integers per byte: how codes of at most 4 bits and block scales of at most 16 are stored."""

from __future__ import annotations

import torch
from torch import Tensor


def pack_int4(values: Tensor) -> Tensor:
    """Pack integers in [-8, 7], int8 (..., K), into uint8 (..., ceil(K / 2)): the even column is the low
    nibble.

    An odd K is padded with one zero. `unpack_int4` is the inverse.

    Raises:
        ValueError: a value does not fit into four bits.
    """
    if values.numel() and (values.amin() < -8 or values.amax() > 7):
        raise ValueError(f"pack_int4: values in [{values.amin()}, {values.amax()}], expected [-8, 7]")
    if values.shape[-1] % 2:
        values = torch.nn.functional.pad(values, (0, 1))
    nibbles = values.to(torch.int8).view(torch.uint8) & 0xF
    return nibbles[..., 0::2] | (nibbles[..., 1::2] << 4)


def unpack_int4(packed: Tensor, length: int) -> Tensor:
    """Unpack uint8 (..., ceil(length / 2)) into int8 (..., length) in [-8, 7]; inverse of `pack_int4`."""
    # Shifting a signed byte right drags its sign along: that sign-extends both nibbles without a branch.
    low = (packed << 4).view(torch.int8) >> 4
    high = packed.view(torch.int8) >> 4
    return torch.stack((low, high), dim=-1).flatten(-2)[..., :length]


def int4_range(packed: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Return the smallest and the largest integer of each row, int8 (N,), of what `unpack_int4` would unpack.

    Args:
        packed: (N, ceil(length / 2)).
        length: integers in a row, at least one.
    """
    # A nibble at the upper end of its byte is ordered by it, whatever is below.
    upper = [(packed << 4).view(torch.int8)]
    if length > 1:
        upper.append(packed[:, : length // 2].view(torch.int8))
    low = torch.stack([values.amin(dim=1) for values in upper]).amin(dim=0) >> 4
    high = torch.stack([values.amax(dim=1) for values in upper]).amax(dim=0) >> 4
    return low, high
