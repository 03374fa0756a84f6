"""Types of transforms' fields whose values have a range: what lies outside is refused, with the range."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import Annotated, Any

from pydantic import BeforeValidator


def _number(value: Any) -> float | None:
    """The value if it is a finite number, else None."""
    return float(value) if isinstance(value, Real) and math.isfinite(value) else None


def _probability(value: Any) -> float:
    number = _number(value)
    if number is None or not 0 <= number <= 1:
        raise ValueError(f"expected a probability from 0 to 1, got {value!r}")
    return number


def _probability_or_off(value: Any) -> float:
    number = _number(value)
    if number is None or number > 1:
        raise ValueError(f"expected a probability from 0 to 1, or a negative number for never, got {value!r}")
    return number


def _deviation_or_off(value: Any) -> float:
    number = _number(value)
    if number is None:
        raise ValueError(f"expected a number from 0, or a negative one for no noise, got {value!r}")
    return number


def _span(low: float, high: float, half_width: str) -> Callable[[Any], float | tuple[float, float]]:
    """A check of one number from 0 to `high`, or of two in [low, high] that do not fall."""

    def check(value: Any) -> float | tuple[float, float]:
        number = _number(value)
        if number is not None and 0 <= number <= high:
            return number
        if isinstance(value, list | tuple) and len(value) == 2:
            first, last = map(_number, value)
            if first is not None and last is not None and low <= first <= last <= high:
                return first, last
        above = "" if math.isinf(high) else f" to {high:g}"
        between = f"from {low:g} on" if math.isinf(high) else f"from {low:g} to {high:g}"
        if math.isinf(low):
            between = "of any size"
        raise ValueError(
            f"expected a number from 0{above} ({half_width}), or (low, high) {between}, got {value!r}"
        )

    return check


Probability = Annotated[float, BeforeValidator(_probability)]
# N1.5 takes negative numbers here for "off".
ProbabilityOrOff = Annotated[float, BeforeValidator(_probability_or_off)]
DeviationOrOff = Annotated[float, BeforeValidator(_deviation_or_off)]
# Ranges as torchvision has them: one number is half their width.
Factor = Annotated[
    float | tuple[float, float], BeforeValidator(_span(0.0, math.inf, "half the width around 1"))
]
HueShift = Annotated[
    float | tuple[float, float], BeforeValidator(_span(-0.5, 0.5, "half the width around 0"))
]
Degrees = Annotated[
    float | tuple[float, float], BeforeValidator(_span(-math.inf, math.inf, "half the width around 0"))
]
