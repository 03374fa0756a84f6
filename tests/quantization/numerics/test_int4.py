"""pack_int4 and unpack_int4: a round trip without loss, two codes per byte."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from gr00t.quantization.numerics.int4 import int4_range, pack_int4, unpack_int4


@given(npst.arrays("int8", st.tuples(st.integers(1, 5), st.integers(1, 33)), elements=st.integers(-8, 7)))
def test_unpacking_returns_what_was_packed(values):
    values = torch.from_numpy(values)
    packed = pack_int4(values)
    assert (packed.dtype, packed.shape[-1]) == (torch.uint8, -(-values.shape[-1] // 2))
    assert torch.equal(unpack_int4(packed, values.shape[-1]), values)


@given(npst.arrays("uint8", st.tuples(st.integers(1, 5), st.integers(1, 9))), st.booleans())
def test_smallest_and_largest_are_those_of_what_is_unpacked(packed, is_odd):
    # Of an odd length the last half byte is none of them, whatever it holds.
    packed = torch.from_numpy(packed)
    length = 2 * packed.shape[1] - is_odd
    values = unpack_int4(packed, length)
    low, high = int4_range(packed, length)
    assert (low.dtype, high.dtype) == (torch.int8, torch.int8)
    assert torch.equal(low, values.amin(dim=1))
    assert torch.equal(high, values.amax(dim=1))


def test_the_even_column_is_the_low_nibble():
    assert pack_int4(torch.tensor([[1, 2, -1]], dtype=torch.int8)).tolist() == [[0x21, 0x0F]]


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"pack_int4: values in \[0, 8\], expected \[-8, 7\]"):
        pack_int4(torch.tensor([[0, 8]]))
