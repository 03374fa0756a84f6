"""Oracles: the published numbers of pairs, simulated power, and the definition of the three answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from gr00t.eval.statistics.intervals import Interval, tango
from gr00t.eval.statistics.noninferiority import judge, planned_pairs


@pytest.mark.parametrize(("discordance", "pairs"), [(0.08, 550), (0.15, 1030), (0.20, 1370)])
def test_planned_pairs_are_the_published_ones(discordance: float, pairs: int) -> None:
    assert planned_pairs(discordance, 3) == pytest.approx(pairs, abs=5)


def test_planned_pairs_are_enough_for_tango_where_nothing_is_discordant() -> None:
    needed = planned_pairs(0.0, 3)
    assert tango(0, 0, needed, 0.90).low > -0.03 >= tango(0, 0, needed - 1, 0.90).low


def test_planned_pairs_have_a_power_of_eighty_percent() -> None:
    """Equally good arms, discordance 15 %: how often does Tango's bound clear the margin?"""
    rng = np.random.default_rng(0)
    counts = rng.multinomial(planned_pairs(0.15, 3), [0.075, 0.075, 0.85], size=1500)
    shown = sum(tango(int(w), int(lost), int(counts[0].sum()), 0.90).low > -0.03 for w, lost, _ in counts)
    # Measured: 0.785.
    assert 0.75 < shown / 1500 < 0.84


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (-0.029, 0.02, "non-inferior"),
        (0.01, 0.03, "non-inferior"),
        (-0.03, 0.02, "undecided"),
        (-0.2, 0.2, "undecided"),
        (-0.05, -0.03, "undecided"),
        (-0.05, -0.031, "inferior"),
    ],
)
def test_the_bounds_decide(low: float, high: float, outcome: str) -> None:
    assert judge(100, 10, (low + high) / 2, Interval(low, high), 3).outcome == outcome


def test_equally_good_arms_lack_the_rest_of_the_plan() -> None:
    # (14 + 1) / (198 + 2) = 7.5 % discordance: 515.2 pairs, 317.2 of them missing.
    found = judge(198, 14, 0.0, Interval(-0.05, 0.05), 3)
    assert (found.outcome, found.more_pairs) == ("undecided", 320)
    assert str(found) == "undecided: about 320 more pairs needed"


def test_after_the_plan_the_interval_has_to_narrow_around_the_observed_difference() -> None:
    found = judge(1000, 80, -0.02, Interval(-0.04, 0.0), 3)
    # The half width 0.02 has to become 0.01 / (1 + 0.8416 / 1.6449): 9.14 times as many pairs.
    factor = (2 * (1 + norm.ppf(0.8) / norm.ppf(0.95))) ** 2
    assert found.more_pairs == pytest.approx(1000 * (factor - 1), rel=0.02)


def test_arms_that_are_not_equally_good_are_not_promised_the_plan() -> None:
    assert judge(200, 6, -0.03, Interval(-0.06, -0.005), 3).more_pairs is None
    assert (
        str(judge(200, 6, -0.03, Interval(-0.06, -0.005), 3))
        == "undecided: the difference lies at the margin"
    )
    towards_worse = judge(200, 20, -0.08, Interval(-0.14, -0.02), 3)
    assert towards_worse.more_pairs == pytest.approx(200 * ((0.06 / 0.05 * 1.5117) ** 2 - 1), rel=0.1)


@pytest.mark.parametrize("margin", [0, -3, 100, float("nan")])
def test_a_margin_is_percentage_points(margin: float) -> None:
    with pytest.raises(ValueError, match="expected percentage points above 0 and below 100"):
        judge(10, 1, 0.0, Interval(-0.1, 0.1), margin)


def test_no_pairs_are_no_verdict() -> None:
    with pytest.raises(ValueError, match="nothing was compared"):
        judge(0, 0, 0.0, Interval(-1, 1), 3)
