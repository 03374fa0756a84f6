"""Which statistics of a training set can be used to normalize by.

What is refused here would reach a robot as NaN, or as actions in another scale than it was trained on. A key
that never changed, min == max and std == 0, is usable: `transform.state_action.Normalizer` says how.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Far beyond what anything is measured in; from there on the range of float32, 3.4e38, is left when
# differences are taken and scaled.
LARGEST = 1e30


def finite_numbers(value: Any) -> NDArray[np.float64]:
    """Return a flat list or array of numbers as (A,) float64.

    Raises:
        ValueError: it is none, is empty, or holds something else than numbers up to `LARGEST`.
    """
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, list | tuple):
        raise ValueError(f"expected a list of numbers, got {value!r}")
    if not value:
        raise ValueError("expected at least one number, got an empty list")
    for place, number in enumerate(value):
        is_number = isinstance(number, Real) and not isinstance(number, bool)
        if not (is_number and abs(number) <= LARGEST):
            raise ValueError(f"expected finite numbers up to {LARGEST:g}, got {number!r} at [{place}]")
    return np.asarray(value, dtype=np.float64)


def contradictions(statistics: Mapping[str, NDArray[np.float64]], shape: Sequence[int]) -> list[str]:
    """What is wrong with the statistics of one key, each problem as `.NAME: WHAT`.

    Args:
        statistics: `min`, `max`, `q01`, `q99`, `mean` and `std`, each (A,).
        shape: of the key, by its description.
    """
    width = math.prod(shape)
    wrong = {name: len(values) for name, values in statistics.items() if len(values) != width}
    if wrong:
        return [f".{name}: {got} numbers, the key has {width}" for name, got in wrong.items()]
    problems = []
    for low, high in (("min", "max"), ("q01", "q99")):
        for place in np.flatnonzero(statistics[low] > statistics[high]).tolist():
            got = f"{statistics[low][place]:g} > {statistics[high][place]:g}"
            problems.append(f".{low}: larger than {high} at [{place}]: {got}")
    for place in np.flatnonzero(statistics["std"] < 0).tolist():
        problems.append(f".std: negative at [{place}]: {statistics['std'][place]:g}")
    return problems
