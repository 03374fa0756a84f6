"""Greedy allocation: error per byte, on the assumption that the squared errors of layers add.

That they do was measured: over single layers of the demonstration policy the root of their sum predicts the
error of all together within 20 %. Of each layer only the choices on the lower convex hull of bytes and
squared error count; taken in the order of their gain per byte they are the best allocation for each number of
bytes that they pass through. What is left of the budget then goes to whatever choices still fit.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence

from gr00t.eval.allocation.budget import AllocationError


@dataclasses.dataclass(frozen=True)
class Choice:
    """A layer at so many bits.

    Attributes:
        bits: of a weight's code.
        stored: bytes of the weight.
        error: of the actions where this layer alone is quantized so.
    """

    bits: int
    stored: int
    error: float

    @property
    def loss(self) -> float:
        """What adds up over layers."""
        return self.error**2


@dataclasses.dataclass(frozen=True)
class Allocation:
    """What each layer gets.

    Attributes:
        chosen: by layer.
    """

    chosen: Mapping[str, Choice]

    @property
    def bits(self) -> dict[str, int]:
        """Bits by layer."""
        return {name: choice.bits for name, choice in self.chosen.items()}

    @property
    def stored(self) -> int:
        """Bytes of all weights."""
        return sum(choice.stored for choice in self.chosen.values())

    @property
    def predicted(self) -> float:
        """Error of the actions with all layers quantized, if squared errors add."""
        return math.sqrt(sum(choice.loss for choice in self.chosen.values()))

    def share(self, name: str) -> float:
        """Return a layer's share of the squared error; 0 where there is none."""
        whole = self.predicted**2
        return self.chosen[name].loss / whole if whole else 0.0


def allocate(choices: Mapping[str, Sequence[Choice]], budget: int) -> Allocation:
    """Choose bits for every layer, so that the predicted error is small and the bytes are within `budget`.

    Args:
        choices: by layer, at least one each.
        budget: bytes of all weights.

    Raises:
        AllocationError: not even the smallest choices fit.
    """
    smallest, largest = extremes(
        {name: [choice.stored for choice in layer] for name, layer in choices.items()}
    )
    if budget < smallest:
        raise AllocationError(f"{budget:,} bytes: an allocation takes {smallest:,} to {largest:,}")
    hulls = {name: lower_hull(layer) for name, layer in choices.items()}
    chosen = {name: hull[0] for name, hull in hulls.items()}
    left = budget - sum(choice.stored for choice in chosen.values())
    steps = [
        (_gain(before, after), name, before, after)
        for name, hull in hulls.items()
        for before, after in itertools.pairwise(hull)
    ]
    # On a hull gains fall, so a layer's steps come in their order; of equal ones the first layer's.
    for _, name, before, after in sorted(steps, key=lambda step: -step[0]):
        more = after.stored - before.stored
        if chosen[name] == before and more <= left:
            chosen[name] = after
            left -= more
    return Allocation(_filled(choices, chosen, left))


def extremes(sizes: Mapping[str, Sequence[int]]) -> tuple[int, int]:
    """Return the fewest and the most bytes that an allocation takes.

    Args:
        sizes: bytes of each choice, by layer.
    """
    smallest, largest = (sum(pick(layer) for layer in sizes.values()) for pick in (min, max))
    return smallest, largest


def uniform(choices: Mapping[str, Sequence[Choice]], bits: int) -> Allocation:
    """Return the allocation of as many bits to every layer; `bits` is a choice of all."""
    return Allocation(
        {name: next(choice for choice in layer if choice.bits == bits) for name, layer in choices.items()}
    )


def lower_hull(choices: Sequence[Choice]) -> list[Choice]:
    """Return the choices that are worth their bytes, smallest first: each step gains less per byte."""
    hull: list[Choice] = []
    for choice in sorted(choices, key=lambda choice: (choice.stored, choice.loss, choice.bits)):
        if hull and (choice.loss >= hull[-1].loss or choice.stored == hull[-1].stored):
            continue
        while len(hull) > 1 and _gain(hull[-2], hull[-1]) <= _gain(hull[-1], choice):
            hull.pop()
        hull.append(choice)
    return hull


def _filled(
    choices: Mapping[str, Sequence[Choice]], chosen: Mapping[str, Choice], left: int
) -> dict[str, Choice]:
    """Spend what is left on the choices that gain most per byte, of those that fit, until none does."""
    filled = dict(chosen)
    while True:
        fitting = [
            (_gain(filled[name], choice), name, choice)
            for name, layer in choices.items()
            for choice in layer
            if 0 < choice.stored - filled[name].stored <= left and choice.loss < filled[name].loss
        ]
        if not fitting:
            return filled
        _, name, choice = max(fitting, key=lambda step: step[0])
        left -= choice.stored - filled[name].stored
        filled[name] = choice


def _gain(before: Choice, after: Choice) -> float:
    """What a step takes off the squared error, per byte."""
    return (before.loss - after.loss) / (after.stored - before.stored)
