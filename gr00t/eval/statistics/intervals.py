"""Intervals and tests for success rates, of one arm and of two arms that played the same episodes.

Wilson's score interval is for one rate. For two arms a pair is one episode played by both; only discordant
pairs, those that one arm solves and the other does not, say anything about the difference. `wins` are the
pairs that only the arm solves, `losses` those that only the baseline solves.

Episodes of two suites make no pairs; their rates are compared by Newcombe's interval.

Wilson: J. Am. Stat. Assoc. 22 (1927) 209. Tango: Statistics in Medicine 17 (1998) 891. Newcombe: there, 873.
McNemar: Psychometrika 12 (1947) 153, here with the exact binomial tail.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.optimize import brentq
from scipy.special import bdtr, ndtri


@dataclass(frozen=True)
class Interval:
    """Two ends, low <= high, in the unit of what they enclose."""

    low: float
    high: float

    def hull(self, other: Interval) -> Interval:
        """The smallest interval that holds both."""
        return Interval(min(self.low, other.low), max(self.high, other.high))


def wilson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Score interval of a success rate; it never leaves [0, 1] and says something at 0 and at all successes.

    Raises:
        ValueError: if there are no trials, or more successes than trials.
    """
    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(f"{successes} successes of {trials} trials: expected 0 <= successes <= trials >= 1")
    z2 = _two_sided(confidence) ** 2
    rate = successes / trials
    center = (rate + z2 / (2 * trials)) / (1 + z2 / trials)
    half = math.sqrt(z2 * (rate * (1 - rate) / trials + z2 / (4 * trials**2))) / (1 + z2 / trials)
    # Exactly 0 and 1 in theory; the rounding of the subtraction would leave 1e-17.
    low = 0.0 if successes == 0 else center - half
    return Interval(low, 1.0 if successes == trials else center + half)


def newcombe(first: tuple[int, int], second: tuple[int, int], confidence: float = 0.95) -> Interval:
    """Hybrid score interval (method 10) of the first success rate minus the second, of unpaired trials.

    Args:
        first: Successes and trials.
        second: Likewise.
        confidence: Of the interval.

    Raises:
        ValueError: as `wilson`.
    """
    rate, other = first[0] / max(1, first[1]), second[0] / max(1, second[1])
    ours, theirs = wilson(*first, confidence), wilson(*second, confidence)
    return Interval(
        rate - other - math.hypot(rate - ours.low, theirs.high - other),
        rate - other + math.hypot(ours.high - rate, other - theirs.low),
    )


def tango(wins: int, losses: int, pairs: int, confidence: float = 0.95) -> Interval:
    """Tango's score interval of the difference of two paired success rates, in [-1, 1].

    It holds the differences that a score test does not reject, with the variance that goes with each of
    them. So it has a width even where no pair is discordant, z^2 / (n + z^2) to either side, where a
    bootstrap has none. Pairs count as independent: it does not know of tasks.

    Raises:
        ValueError: if there are no pairs, or more discordant pairs than pairs.
    """
    if min(wins, losses) < 0 or wins + losses > pairs or pairs == 0:
        raise ValueError(f"{wins} wins and {losses} losses in {pairs} pairs: expected wins + losses <= pairs")
    z = _two_sided(confidence)
    return Interval(-_tango_upper(losses, wins, pairs, z), _tango_upper(wins, losses, pairs, z))


def _tango_upper(wins: int, losses: int, pairs: int, z: float) -> float:
    """The largest difference that is not rejected: the root of `excess` above the estimate."""
    estimate = (wins - losses) / pairs

    def excess(difference: float) -> float:
        # The score statistic, multiplied out so that nothing is divided by a variance of 0 at the borders.
        variance = _tango_variance(difference, wins, losses, pairs)
        return wins - losses - pairs * difference + z * math.sqrt(pairs * max(0.0, variance))

    # Without discordant pairs the estimate itself is a second root: start just above it.
    start = estimate + 1e-12 * (1 - estimate)
    if excess(start) <= 0:
        return start
    return float(brentq(excess, start, 1.0, xtol=1e-13))


def _tango_variance(difference: float, wins: int, losses: int, pairs: int) -> float:
    """Variance of one pair's difference; the rate of losses is its likeliest, given `difference`."""
    a = 2 * pairs
    b = -wins - losses + (2 * pairs - wins + losses) * difference
    c = -losses * difference * (1 - difference)
    loss_rate = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
    return 2 * loss_rate + difference * (1 - difference)


def mcnemar_exact(wins: int, losses: int) -> float:
    """Two-sided exact p-value that two arms are equally good: a fair coin for each discordant pair."""
    return min(1.0, 2 * float(bdtr(min(wins, losses), wins + losses, 0.5)))


def _two_sided(confidence: float) -> float:
    return float(ndtri((1 + confidence) / 2))
