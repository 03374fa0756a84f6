"""In what a pack differs from what is wanted, by name. Oracle: what was changed."""

from __future__ import annotations

import dataclasses

import pytest

from gr00t.quantization import IntFormat, LinearSpec, Rounding
from gr00t.quantization.checkpoint.pack_entry import difference, knows_more, made_from
from tests.quantization.checkpoint.test_packs import statistics

SPEC = LinearSpec(64, 32)
WHOLE = made_from("w", SPEC, None, statistics())


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, ""),
        ({"weight": IntFormat(3)}, "weight bits 3, not 4"),
        ({"weight": None}, "weight bits 16, not 4"),
        ({"activation": None}, "activation bits 16, not 8"),
        ({"rounding": Rounding.FEEDBACK}, "rounding 'feedback', not 'nearest'"),
        ({"block_in": 8, "smoothing": 0.5}, "block_in 8, not 16; smoothing 0.5, not 0.0"),
    ],
)
def test_each_setting_that_differs_is_named(changed, said):
    other = made_from("w", dataclasses.replace(SPEC, **changed), None, statistics())
    assert difference(other, WHOLE) == (said and f"is for other settings ({said})")


def test_what_was_recorded_and_the_weight_are_named_too():
    assert (
        difference(made_from("w", SPEC, None, statistics(3)), WHOLE) == "is for other settings (statistics)"
    )
    assert difference(made_from("v", SPEC, None, statistics()), WHOLE) == "is for another weight"
    assert difference({"spec": [], "made_from": {}}, WHOLE).startswith(
        "is for another weight and other settings (weight bits None, not 4; activation bits None, not 8; "
    )
    assert difference({"spec": {"weight": "x" * 90}, "made_from": {}}, WHOLE).startswith(
        "is for another weight and other settings (weight bits None, not 4; "
    )


@pytest.mark.parametrize(
    ("said", "more"),
    [
        ({}, False),
        ({"weight": "w"}, False),
        ({"weight": "w", "statistics": "s"}, False),
        ({"weight": "w", "statistics": "s", "inputs": "i"}, True),
        ({"weight": "v", "statistics": "s", "inputs": "i"}, False),
    ],
)
def test_a_pack_of_the_same_weight_by_more_recorded_inputs_is_told_from_others(said, more):
    assert knows_more(said, WHOLE) is more
    assert knows_more(said, made_from("w", SPEC, None, None)) is (
        more or said == {"weight": "w", "statistics": "s"}
    )
