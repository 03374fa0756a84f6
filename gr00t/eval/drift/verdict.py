"""What an arm's err says before episodes are played.

The thresholds lie between the harmless and the harmful of seven arms of this repository's demonstration
policy, whose losses in closed loop were known: err up to 0.083 lost nothing that 100 pairs of episodes show,
0.129 and more lost 27 points and more (docs/QUALITY.md). They are fitted: another policy may bear more, or
less.

A pass is as good as the observations behind it: it takes an interval of err that ends below what is rejected.
Few episodes have a wide one, and say to play. A reject is of err alone, and is no result either.
"""

from __future__ import annotations

from typing import Literal

from gr00t.eval.statistics.intervals import Interval

PASS_UP_TO, REJECT_FROM = 0.08, 0.13
FITTED_ON = "the demonstration policy"

Verdict = Literal["pass", "play episodes", "reject"]


def verdict(err: float, interval: Interval) -> Verdict:
    """Return what to do with an arm of this err, of which `interval` is the interval of 95 %."""
    if err >= REJECT_FROM:
        return "reject"
    return "pass" if err <= PASS_UP_TO and interval.high < REJECT_FROM else "play episodes"
