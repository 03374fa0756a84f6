"""Packed weights as the matrix instructions take them: `g c`, an int8 (`quantizers`), in registers only.

`numerics.packing` says how codes and block scales lie in planes of 4, 2 and 1 bits. A word of a plane of w
bits holds what belongs to 4 / w words of the plane of 4 bits, one after the other: its bytes are fetched in
their order, and spread out by a shift for each of these words. The even codes and the odd ones stay apart, as
the GEMM takes them.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _plane_bytes(pairs: tl.tensor, width: tl.constexpr) -> tl.tensor:
    """Bytes that a plane of `width` bits of so many pairs of integers takes."""
    return pairs if width == 4 else 4 * tl.cdiv(pairs, 16 // width)


@triton.jit
def _row_bytes(pairs: tl.tensor, bits: tl.constexpr) -> tl.tensor:
    """Bytes that a row of so many pairs of integers of `bits` bits takes, 1 to 7."""
    length = 0
    for width in tl.static_range(4, 0, -1):
        if width != 3 and bits & width:
            length += _plane_bytes(pairs, width)
    return length


@triton.jit
def _block_scales(
    block_scale: tl.tensor,
    n: tl.tensor,
    is_row: tl.tensor,
    group: tl.tensor,
    groups: tl.tensor,
    bits: tl.constexpr,
    offset: tl.constexpr,
) -> tl.tensor:
    """(outputs, groups) int8: the integer scales `g` of blocks `group` of rows `n`."""
    inside = is_row[:, None] & (group < groups)[None, :]
    pair, pairs = group // 2, (groups + 1) // 2
    plane = block_scale + n[:, None].to(tl.int64) * _row_bytes(pairs, bits)
    stored = tl.zeros((n.shape[0], group.shape[0]), tl.int32)
    for width in tl.static_range(4, 0, -1):
        if width != 3 and bits & width:
            # The few that a step of the GEMM needs: each fetches its own byte.
            place, shift = pair, (group % 2) * 4
            if width < 4:
                place = pair // (16 // width) * 4 + pair % 4
                shift += pair // 4 % (4 // width) * width
            byte = tl.load(plane + place[None, :], mask=inside, other=0).to(tl.int32)
            # Above the bits of the wider planes.
            stored |= ((byte >> shift[None, :]) & ((1 << width) - 1)) << (bits & (8 - 2 * width))
            plane += _plane_bytes(pairs, width)
    half: tl.constexpr = 1 << (bits - 1)
    return ((stored ^ half) - half + offset).to(tl.int8)


@triton.jit
def _fields(
    plane: tl.tensor,
    is_row: tl.tensor,
    start: tl.tensor,
    pairs: tl.tensor,
    width: tl.constexpr,
    depth: tl.constexpr,
) -> tl.tensor:
    """(outputs, depth) uint8: of pairs from `start` on the fields of `width` bits, the even integer's at bit
    0, the odd one's at bit 4, and others' around them.

    `plane` (outputs, 1) is where rows begin, `start` a multiple of `depth`, and that one of 16.
    """
    across: tl.constexpr = 4 // width
    place = start // across + tl.arange(0, depth // across)
    inside = is_row[:, None] & (place < _plane_bytes(pairs, width))[None, :]
    byte = tl.load(plane + place[None, :], mask=inside, other=0).to(tl.uint8, bitcast=True)
    if across > 1:
        shift = (tl.arange(0, across) * width).to(tl.uint8)[None, None, :, None]
        word = tl.reshape(byte, (byte.shape[0], depth // (4 * across), 1, 4))
        byte = tl.reshape(word >> shift, (byte.shape[0], depth))
    return byte


@triton.jit
def _codes(
    codes: tl.tensor,
    n: tl.tensor,
    is_row: tl.tensor,
    start: tl.tensor,
    evens: tl.tensor,
    odds: tl.tensor,
    bits: tl.constexpr,
    depth: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:
    """Two (outputs, depth) int8: the codes of the even and of the odd channels of pairs from `start` on."""
    pair = start + tl.arange(0, depth)
    is_even = is_row[:, None] & (pair < evens)[None, :]
    if bits == 4:
        byte = tl.load(codes + n[:, None].to(tl.int64) * evens + pair[None, :], mask=is_even, other=0)
        # Shifting a signed byte right drags its sign along.
        low = (byte << 4).to(tl.int8, bitcast=True) >> 4
        high = byte.to(tl.int8, bitcast=True) >> 4
    elif bits == 8:
        place = n[:, None].to(tl.int64) * (evens + odds) + 2 * pair[None, :]
        low = tl.load(codes + place, mask=is_even, other=0)
        high = tl.load(codes + place + 1, mask=is_row[:, None] & (pair < odds)[None, :], other=0)
    else:
        plane = codes + n[:, None].to(tl.int64) * _row_bytes(evens, bits)
        even = tl.zeros((n.shape[0], depth), tl.uint8)
        odd = tl.zeros((n.shape[0], depth), tl.uint8)
        for width in tl.static_range(4, 0, -1):
            if width != 3 and bits & width:
                field = _fields(plane, is_row, start, evens, width, depth)
                # At the upper end of the byte, above the wider planes' bits, so that it has the code's sign.
                even |= (field & ((1 << width) - 1)) << (8 - bits + (bits & (8 - 2 * width)))
                odd |= ((field >> 4) & ((1 << width) - 1)) << (8 - bits + (bits & (8 - 2 * width)))
                plane += _plane_bytes(evens, width)
        low = even.to(tl.int8, bitcast=True) >> (8 - bits)
        high = odd.to(tl.int8, bitcast=True) >> (8 - bits)
    return low, high


@triton.jit
def weight(
    codes: tl.tensor,
    block_scale: tl.tensor,
    n: tl.tensor,
    is_row: tl.tensor,
    start: tl.tensor,
    evens: tl.tensor,
    odds: tl.tensor,
    code_bits: tl.constexpr,
    scale_bits: tl.constexpr,
    scale_offset: tl.constexpr,
    block: tl.constexpr,
    depth: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:
    """Two (outputs, depth) int8: `g c` of the even and of the odd channels of pairs from `start` on."""
    low, high = _codes(codes, n, is_row, start, evens, odds, code_bits, depth)
    if block_scale is not None:
        groups = tl.cdiv(evens + odds, block)
        if block > 1 and (block & (block - 1)) == 0:
            # Whole runs of pairs share a scale: one load for each of them.
            half: tl.constexpr = block // 2
            run: tl.constexpr = half if half < depth else depth
            group = start // half + tl.arange(0, depth // run)
            g = _block_scales(block_scale, n, is_row, group, groups, scale_bits, scale_offset)[:, :, None]
            shape: tl.constexpr = (n.shape[0], depth // run, run)
            low = tl.reshape(tl.reshape(low, shape) * g, (n.shape[0], depth))
            high = tl.reshape(tl.reshape(high, shape) * g, (n.shape[0], depth))
        else:
            pair = start + tl.arange(0, depth)
            even, odd = 2 * pair // block, (2 * pair + 1) // block
            low *= _block_scales(block_scale, n, is_row, even, groups, scale_bits, scale_offset)
            high *= _block_scales(block_scale, n, is_row, odd, groups, scale_bits, scale_offset)
    return low, high
