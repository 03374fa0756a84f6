"""pack_codes and unpack_codes: a round trip without loss, in the bytes that `packing` says.

Oracles: where the module's table says each bit lies, bit by bit; and two int4 in a byte as 0.1.0 packed them.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from gr00t.quantization.numerics.packing import (
    ends_in_zeros,
    pack_codes,
    packed_bytes,
    packed_range,
    planes,
    unpack_codes,
)

ANY, IN_PLANES = st.integers(1, 8), st.integers(1, 7)


@st.composite
def integers(draw, bits=ANY):
    """How many bits, and integers of so many, (rows, K)."""
    width = draw(bits)
    low, high = -(1 << (width - 1)), (1 << (width - 1)) - 1
    shape = st.tuples(st.integers(1, 4), st.integers(1, 150))
    return width, torch.from_numpy(draw(npst.arrays("int8", shape, elements=st.integers(low, high))))


def bit_by_bit(values: torch.Tensor, bits: int) -> list[list[int]]:
    """Each row's bytes, by the formula of the module's docstring."""
    rows = []
    for row in values.tolist():
        packed: list[int] = []
        start = 0
        for w in planes(bits):
            unit, unit_bytes = (2, 1) if w == 4 else (8 * 4 // w, 4)
            plane = [0] * (-(-len(row) // unit) * unit_bytes)
            for k, value in enumerate(row):
                field = (value % 2**bits) >> start & (2**w - 1)
                s = 4 // w
                t, q, b, h = k // (8 * s), k // 8 % s, k // 2 % 4, k % 2
                plane[4 * t + b] |= field << (4 * h + w * q)
            packed += plane
            start += w
        rows.append(packed)
    return rows


@given(integers())
def test_unpacking_returns_what_was_packed(case):
    bits, values = case
    packed = pack_codes(values, bits)
    assert (packed.dtype, packed.shape[-1]) == (torch.uint8, packed_bytes(values.shape[-1], bits))
    assert torch.equal(unpack_codes(packed, bits, values.shape[-1]), values)


@given(integers(IN_PLANES))
def test_every_bit_lies_where_the_table_says(case):
    bits, values = case
    assert pack_codes(values, bits).tolist() == bit_by_bit(values, bits)


@given(integers(st.just(4)))
def test_int4_are_packed_as_they_always_were(case):
    values = torch.nn.functional.pad(case[1], (0, case[1].shape[-1] % 2))
    nibbles = values.view(torch.uint8) & 0xF
    assert torch.equal(pack_codes(case[1], 4), nibbles[..., 0::2] | (nibbles[..., 1::2] << 4))


def test_the_even_column_is_the_low_half_byte():
    assert pack_codes(torch.tensor([[1, 2, -1]], dtype=torch.int8), 4).tolist() == [[0x21, 0x0F]]


@pytest.mark.parametrize("bits", range(1, 9))
def test_nothing_is_left_between_integers(bits):
    """A row of 32, or of many of those, takes its bits and no more."""
    assert [packed_bytes(count, bits) for count in (32, 2048)] == [4 * bits, 256 * bits]


@given(integers())
def test_the_range_of_a_row_is_that_of_its_integers(case):
    bits, values = case
    low, high = packed_range(pack_codes(values, bits), bits, values.shape[-1])
    assert torch.equal(low, values.amin(dim=1))
    assert torch.equal(high, values.amax(dim=1))


@given(integers())
def test_a_bit_after_the_last_integer_is_noticed(case):
    bits, values = case
    count, packed = values.shape[-1], pack_codes(values, bits)
    assert ends_in_zeros(packed, bits, count)
    beyond = pack_codes(torch.nn.functional.pad(values, (0, 1), value=-1), bits)
    if beyond.shape == packed.shape:
        assert not ends_in_zeros(beyond, bits, count)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"pack_codes: values in \[0, 8\], expected \[-8, 7\]"):
        pack_codes(torch.tensor([[0, 8]]), 4)
    with pytest.raises(ValueError, match=r"pack_codes: values in \[-5, 0\], expected \[-4, 3\]"):
        pack_codes(torch.tensor([[0, -5]]), 3)
