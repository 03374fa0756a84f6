"""Critical values of a test that is looked at several times and errs as rarely as one that is looked at once.

Each look may use up a share of the error that is fixed in advance by how far the run has come: alpha
spending (Lan and DeMets, Biometrika 70 (1983) 659), here alpha * t^1.5 at the share t of all pairs (the power
family of Kim and DeMets, Biometrika 74 (1987) 149). O'Brien and Fleming's (t^3 resembles it) asks for a z of
5 at a tenth of the pairs, which no test over five tasks reaches; Pocock's (t resembles it) costs power at the
end.

The critical values follow by numerical integration (Armitage, McPherson and Rowe, J. R. Stat. Soc. A 132
(1969) 235): the statistic at several looks is a Brownian motion seen at their times. Where tasks differ,
looks resemble each other more than that, so that crossing at any of them is rarer (Slepian, Bell System
Technical Journal 41 (1962) 463): the error is then below what is stated.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

SPENDING_POWER = 1.5
# Of the density below a boundary; the values are then right to 1e-4.
_GRID = 2001
_FAR = 8.0  # standard deviations below which nothing is left


def spent(share: float, alpha: float) -> float:
    """The error that may be used up at a share of all pairs, in (0, 1]."""
    return float(alpha * share**SPENDING_POWER)


def critical_values(shares: Sequence[float], cumulative: Sequence[float]) -> list[float]:
    """One-sided critical values of z at each look.

    Args:
        shares: Of the information, increasing, in (0, 1].
        cumulative: The error used up at each look and before, increasing.

    Raises:
        ValueError: if the numbers do not increase, or are outside (0, 1].
    """
    for name, values in (("shares", shares), ("errors", cumulative)):
        steps = np.diff([0.0, *values])
        if len(steps) == 0 or steps.min() <= 0 or values[-1] > 1:
            raise ValueError(f"{name} {list(values)}: expected increasing numbers above 0 and at most 1")
    first = float(ndtri(1 - cumulative[0]))
    found = [first]
    grid = _below(first, shares[0])
    density = np.exp(-(grid**2) / (2 * shares[0])) / np.sqrt(2 * np.pi * shares[0])
    for look in range(1, len(shares)):
        share, step = shares[look], shares[look] - shares[look - 1]
        may_use = cumulative[look] - cumulative[look - 1]
        weighted = density * _weights(grid)

        def surplus(z: float) -> float:
            """How much more than it may this look would use with `z`."""
            beyond = ndtr((grid - z * np.sqrt(share)) / np.sqrt(step))  # noqa: B023  (used at once)
            return float(weighted @ beyond) - may_use  # noqa: B023

        z = float(brentq(surplus, -_FAR, 2 * _FAR, xtol=1e-10))
        found.append(z)
        onward = _below(z, share)
        kernel = np.exp(-((onward[:, None] - grid) ** 2) / (2 * step)) / np.sqrt(2 * np.pi * step)
        grid, density = onward, kernel @ weighted
    return found


def _below(z: float, share: float) -> NDArray[np.float64]:
    """Where the motion can be that has not crossed."""
    return np.linspace(-_FAR, z, _GRID) * np.sqrt(share)


def _weights(grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the trapezoidal rule."""
    weights = np.full(len(grid), grid[1] - grid[0])
    weights[[0, -1]] /= 2
    return weights
