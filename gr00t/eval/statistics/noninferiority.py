"""Is an arm at most a margin worse than the baseline? Three answers; the third says how many pairs it lacks.

The one-sided test at alpha = 5 % reads off an interval of 90 %: non-inferior when all of it lies above
-margin, inferior when all of it lies below, else undecided. An interval across the margin is no proof of
anything, however good the difference looks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from scipy.special import ndtri

from gr00t.eval.statistics.intervals import Interval

Outcome = Literal["non-inferior", "inferior", "undecided"]

ALPHA = 0.05
POWER = 0.80
# The two-sided interval whose ends are the one-sided bounds.
CONFIDENCE = 1 - 2 * ALPHA
# More than anybody plays: the difference then lies at the margin, and no number of pairs decides.
MOST_PAIRS = 100_000
_Z_ALPHA = float(ndtri(1 - ALPHA))
_Z_BOTH = _Z_ALPHA + float(ndtri(POWER))


@dataclass(frozen=True)
class NonInferiority:
    """The answer at a margin.

    Attributes:
        outcome: What the interval says.
        margin: In percentage points.
        more_pairs: If undecided: about how many pairs are missing, to two digits; None where more than
            `MOST_PAIRS` would be.
        by_looks: What the looks of a run that plays until it is decided add to it, in words; empty for a
            fixed number of pairs.
    """

    outcome: Outcome
    margin: float
    more_pairs: int | None = None
    by_looks: str = ""

    def __str__(self) -> str:
        """The verdict in the words of tables."""
        if self.by_looks:
            return f"{self.outcome}{self.by_looks}"
        if self.outcome != "undecided":
            return self.outcome
        if self.more_pairs is None:
            return "undecided: the difference lies at the margin"
        return f"undecided: about {self.more_pairs:,} more pairs needed"


def planned_pairs(discordance: float, margin: float) -> int:
    """Pairs with which two equally good arms are found non-inferior with the stated power.

    (z_alpha + z_power)^2 * discordance / margin^2 = 6.18 * discordance / margin^2 for independent pairs;
    and no fewer than Tango's bound needs where no pair is discordant.

    Args:
        discordance: Share of pairs that one arm solves and the other does not.
        margin: In percentage points.
    """
    share = margin / 100
    return math.ceil(max(_Z_BOTH**2 * discordance / share**2, _Z_ALPHA**2 * (1 - share) / share))


def judge(pairs: int, discordant: int, difference: float, bounds: Interval, margin: float) -> NonInferiority:
    """The verdict.

    Two equally good arms need `planned_pairs` for the observed discordance, smoothed by one pair of each
    kind since none in ten is not none; the rest of that plan is missing. Where the plan is fulfilled, or the
    bounds say that the arms are not equally good, it is the number at which an interval that narrows with
    the root of the pairs, around the observed difference, would decide.

    Args:
        pairs: Played by both arms, at least one.
        discordant: Those that one arm solves and the other does not.
        difference: Of the success rates, arm - baseline, in [-1, 1].
        bounds: The one-sided lower and upper bound of it.
        margin: In percentage points.

    Raises:
        ValueError: for no pairs, or a margin that is not between 0 and 100.
    """
    if pairs < 1:
        raise ValueError("no pairs: nothing was compared")
    if not 0 < margin < 100:
        raise ValueError(f"margin {margin}: expected percentage points above 0 and below 100")
    share = margin / 100
    if bounds.low > -share:
        return NonInferiority("non-inferior", margin)
    if bounds.high < -share:
        return NonInferiority("inferior", margin)
    needed: float = planned_pairs((discordant + 1) / (pairs + 2), margin)
    if needed <= pairs or not bounds.low <= 0 <= bounds.high:
        distance = abs(difference + share)
        half = difference - bounds.low if difference > -share else bounds.high - difference
        needed = math.inf if distance == 0 else pairs * (half * _Z_BOTH / _Z_ALPHA / distance) ** 2
    more = needed - pairs
    return NonInferiority("undecided", margin, _two_digits(more) if more <= MOST_PAIRS else None)


def _two_digits(value: float) -> int:
    """`value` rounded up to two significant digits: it is an estimate of an estimate."""
    unit = 10 ** max(0, math.floor(math.log10(max(1.0, value))) - 1)
    return math.ceil(max(1.0, value) / unit) * unit
