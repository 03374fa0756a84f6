"""Small integers in rows of bytes, without gaps between them: how codes and block scales are stored.

An integer of b bits, two's complement, is cut into planes of 4, 2 and 1 bits, whichever b is the sum of: its
lowest bits go into the first plane, and so on.

    bits     1   2   3     4   5     6     7         8
    planes   1   2   2, 1  4   4, 1  4, 2  4, 2, 1   none: an int8 each

A row is its planes one after the other, each of whole units. In the plane of w bits, with s = 4 / w fields in
half a byte, the field of integer 8 (s t + q) + 2 b + h lies in byte 4 t + b, at bit 4 h + w q: b is from 0 to
3, h is 0 or 1, q is below s. So

    w   unit                  bytes of a row     integer                      byte       bit
    4    2 integers, 1 byte   ceil(K / 2)        2 i + h                      i          4 h
    2   16 integers, 4 bytes  4 ceil(K / 16)     16 t + 8 q + 2 b + h         4 t + b    4 h + 2 q
    1   32 integers, 4 bytes  4 ceil(K / 32)     32 t + 8 q + 2 b + h         4 t + b    4 h + q

and fields of integers that are not there are zero. Why so: kernels read int4, two in a byte as always, by
words of 4 bytes: the even integers of eight are the low half bytes, the odd ones the high. A word of a
narrower plane holds, in the same half bytes, the fields for 4 / w such words, and a shift and a mask bring
them to where they are wanted.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_ROWS_AT_A_TIME = 1 << 12


def planes(bits: int) -> tuple[int, ...]:
    """Return how wide the planes of an integer of 1 to 7 bits are, the one of its lowest bits first."""
    return tuple(width for width in (4, 2, 1) if bits & width)


def packed_bytes(count: int, bits: int) -> int:
    """Return how many bytes a row of `count` integers of `bits` bits takes, 1 to 8."""
    if bits == 8:
        return count
    return sum(_unit_bytes(width) * -(-count // _unit(width)) for width in planes(bits))


def pack_codes(values: Tensor, bits: int) -> Tensor:
    """Pack integers of `bits` bits, int8 (..., K), into uint8 (..., packed_bytes(K, bits)).

    `unpack_codes` is the inverse.

    Raises:
        ValueError: a value does not fit.
    """
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    if values.numel() and (values.amin() < low or values.amax() > high):
        raise ValueError(
            f"pack_codes: values in [{values.amin()}, {values.amax()}], expected [{low}, {high}]"
        )
    unsigned = values.to(torch.int8).view(torch.uint8)
    if bits == 8:
        return unsigned
    packed, start = [], 0
    for width in planes(bits):
        packed.append(_pack_plane((unsigned >> start) & ((1 << width) - 1), width))
        start += width
    return packed[0] if len(packed) == 1 else torch.cat(packed, dim=-1)


def unpack_codes(packed: Tensor, bits: int, count: int) -> Tensor:
    """Unpack uint8 (..., packed_bytes(count, bits)) into int8 (..., count); inverse of `pack_codes`."""
    if bits == 8:
        return packed.view(torch.int8)
    widths = planes(bits)
    rows = packed.split([packed_bytes(count, width) for width in widths], dim=-1)
    values = _unpack_plane(rows[0], widths[0], is_signed=len(widths) == 1)
    start = widths[0]
    for row, width in zip(rows[1:], widths[1:], strict=True):
        upper = _unpack_plane(row, width, is_signed=start + width == bits)[..., : values.shape[-1]]
        if upper.shape[-1] < values.shape[-1]:
            values = values[..., : upper.shape[-1]]
        values = (upper << start).bitwise_or_(values)
        start += width
    return values[..., :count]


def packed_range(packed: Tensor, bits: int, count: int) -> tuple[Tensor, Tensor]:
    """Return the smallest and the largest integer of each row, int8 (N,), of what would be unpacked.

    Args:
        packed: (N, packed_bytes(count, bits)) uint8.
        bits: of an integer.
        count: integers in a row, at least one.
    """
    if bits == 4:  # one at the upper end of its byte is ordered by it, whatever is below: nothing is unpacked
        upper = [(packed << 4).view(torch.int8)]
        if count > 1:
            upper.append(packed[:, : count // 2].view(torch.int8))
        low = torch.stack([values.amin(dim=1) for values in upper]).amin(dim=0) >> 4
        return low, torch.stack([values.amax(dim=1) for values in upper]).amax(dim=0) >> 4
    parts = (unpack_codes(rows, bits, count) for rows in packed.split(_ROWS_AT_A_TIME))
    ranges = [torch.stack((rows.amin(dim=1), rows.amax(dim=1))) for rows in parts]
    low, high = torch.cat(ranges, dim=1)
    return low, high


def ends_in_zeros(packed: Tensor, bits: int, count: int) -> bool:
    """Whether the bits of each row that are no integer's are zero."""
    if packed.shape[-1] * 8 == count * bits:
        return True
    return torch.equal(pack_codes(unpack_codes(packed, bits, count), bits), packed)


def _unit(width: int) -> int:
    """Integers whose fields fill a unit of bytes."""
    return 8 * _unit_bytes(width) // width


def _unit_bytes(width: int) -> int:
    return 1 if width == 4 else 4


def _pack_plane(fields: Tensor, width: int) -> Tensor:
    """Fields (..., K) of `width` bits, uint8, as bytes."""
    count, (per_half, across) = fields.shape[-1], (4 // width, _unit_bytes(width))
    fields = functional.pad(fields, (0, -count % _unit(width))).unflatten(-1, (-1, per_half, across, 2))
    packed = fields[..., 0, :, 0].clone()
    for q in range(per_half):
        for h in range(2):
            if q or h:
                packed |= fields[..., q, :, h] << (4 * h + width * q)
    return packed.flatten(-2)


def _unpack_plane(packed: Tensor, width: int, is_signed: bool) -> Tensor:
    """Fields of `width` bits (..., K up to a whole unit) int8: numbers from 0 on, or of two's complement."""
    per_half, across = 4 // width, _unit_bytes(width)
    packed = packed.unflatten(-1, (-1, across))
    fields = torch.empty((*packed.shape[:-1], per_half, across, 2), dtype=torch.int8, device=packed.device)
    for q in range(per_half):
        for h in range(2):
            # Shifting a signed byte right drags its sign along: a mask and a branch less.
            top = (packed << (8 - width - 4 * h - width * q)) if 4 * h + width * q + width < 8 else packed
            one = top.view(torch.int8) if is_signed else top
            fields[..., q, :, h] = (one >> (8 - width)).view(torch.int8)
    return fields.flatten(-4)
