"""Budgets as people write them. Oracle: the same number worked out by hand."""

from __future__ import annotations

import pytest

from gr00t.eval.allocation.budget import AllocationError, bits_per_weight, parse_budget


@pytest.mark.parametrize(
    ("text", "in_bytes"),
    [
        ("4.25", 531_250),
        (" 4 ", 500_000),
        ("870KB", 870_000),
        ("870 kB", 870_000),
        ("1KiB", 1024),
        ("0.5GiB", 2**29),
        ("762880B", 762_880),
        ("1.5mb", 1_500_000),
    ],
)
def test_bits_per_weight_and_bytes(text, in_bytes):
    assert parse_budget(text).in_bytes(1_000_000) == in_bytes


def test_a_part_of_a_byte_is_none():
    assert parse_budget("3.5").in_bytes(9) == 3


def test_bytes_as_bits_per_weight():
    assert bits_per_weight(762_880, 1_376_256) == pytest.approx(4.4345, abs=1e-4)


@pytest.mark.parametrize("text", ["", "four", "4.25.1", "-4", "870KX", "KB", "nan"])
def test_what_is_no_budget_is_refused(text):
    with pytest.raises(AllocationError, match=r"expected bits per weight, as 4.25, or bytes with their unit"):
        parse_budget(text)


@pytest.mark.parametrize("text", ["0", "870", "16.1"])
def test_bytes_without_a_unit_are_told_from_bits(text):
    with pytest.raises(AllocationError, match=rf"at most 16 bits per weight; .*, as {text}KB$"):
        parse_budget(text)
