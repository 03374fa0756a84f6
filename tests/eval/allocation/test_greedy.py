"""Greedy allocation. Oracle: every allocation there is, on cases small enough to list them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from gr00t.eval.allocation.budget import AllocationError
from gr00t.eval.allocation.greedy import Allocation, Choice, allocate, lower_hull, uniform

BITS = (2, 3, 4, 6, 8)


def layers(seed: int, falling: bool = True) -> dict[str, list[Choice]]:
    """Five layers of different sizes, whose errors fall by about half for each bit."""
    random = np.random.default_rng(seed)
    found = {}
    for index, weights in enumerate(random.integers(20, 200, size=5)):
        scale = 10 ** random.uniform(-4, -1)
        errors = [scale * 2.0**-bits * random.uniform(0.7, 1.4) for bits in BITS]
        if not falling:
            errors = list(random.permutation(errors))
        found[f"layer{index}"] = [
            Choice(bits, int(weights * bits), float(error)) for bits, error in zip(BITS, errors, strict=True)
        ]
    return found


def best(choices: dict[str, list[Choice]], budget: int) -> Allocation:
    """The best of all allocations within a budget."""
    every = (Allocation(dict(zip(choices, row, strict=True))) for row in itertools.product(*choices.values()))
    return min((found for found in every if found.stored <= budget), key=lambda found: found.predicted)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_it_is_within_budget_and_near_the_best(seed, share):
    """The best is at most one layer's step ahead: measured, at most 1.20 times the best error, mean 1.01."""
    choices = layers(seed)
    smallest, largest = (
        sum(pick(c.stored for c in layer) for layer in choices.values()) for pick in (min, max)
    )
    budget = int(smallest + share * (largest - smallest))
    found = allocate(choices, budget)
    assert found.stored <= budget
    assert found.predicted <= 1.25 * best(choices, budget).predicted


@pytest.mark.parametrize("seed", range(20))
def test_for_the_bytes_that_it_passes_through_nothing_is_better(seed):
    """Oracle: all allocations with no more bytes, at each step along the hulls."""
    choices = layers(seed)
    steps = sorted(
        (
            ((before.loss - after.loss) / (after.stored - before.stored), after.stored - before.stored)
            for layer in choices.values()
            for before, after in itertools.pairwise(lower_hull(layer))
        ),
        reverse=True,
    )
    budget = sum(min(choice.stored for choice in layer) for layer in choices.values())
    for _, more in steps:
        budget += more
        assert allocate(choices, budget).predicted == pytest.approx(best(choices, budget).predicted)


@pytest.mark.parametrize("seed", range(20))
def test_errors_that_do_not_fall_with_the_bits_mislead_nobody(seed):
    choices = layers(seed, falling=False)
    budget = sum(layer[-1].stored for layer in choices.values())
    found = allocate(choices, budget)
    assert found.predicted == pytest.approx(best(choices, budget).predicted)
    assert all(choice.error == min(c.error for c in choices[name]) for name, choice in found.chosen.items())


def test_what_is_left_is_spent_on_what_still_fits():
    """By hand: the first step does not fit, one off the hull does."""
    choices = {"a": [Choice(2, 10, 1.0), Choice(3, 14, 0.9), Choice(8, 30, 0.0)]}
    assert lower_hull(choices["a"]) == [choices["a"][0], choices["a"][2]]
    assert allocate(choices, 29).bits == {"a": 3}
    assert allocate(choices, 30).bits == {"a": 8}
    assert allocate(choices, 13).bits == {"a": 2}


def test_a_hull_leaves_out_what_costs_more_and_gains_less():
    """By hand: 3 bits stored as 4, and more bits without a gain."""
    four, three, five, eight = (
        Choice(4, 40, 0.2),
        Choice(3, 44, 0.4),
        Choice(5, 50, 0.2),
        Choice(8, 80, 0.1),
    )
    assert lower_hull([three, four, five, eight]) == [four, eight]


def test_figures_of_an_allocation():
    found = uniform({"a": [Choice(4, 5, 3.0), Choice(8, 9, 0.0)], "b": [Choice(4, 2, 4.0)]}, 4)
    assert (found.bits, found.stored, found.predicted) == ({"a": 4, "b": 4}, 7, 5.0)
    assert (found.share("a"), found.share("b")) == (pytest.approx(0.36), pytest.approx(0.64))
    assert Allocation({"a": Choice(8, 9, 0.0)}).share("a") == 0.0
    assert not math.isnan(Allocation({"a": Choice(8, 9, 0.0)}).predicted)


def test_a_budget_below_the_smallest_is_refused():
    with pytest.raises(AllocationError, match=r"^29 bytes: an allocation takes 30 to 50$"):
        allocate({"a": [Choice(2, 10, 1.0)], "b": [Choice(2, 20, 1.0), Choice(4, 40, 0.5)]}, 29)
