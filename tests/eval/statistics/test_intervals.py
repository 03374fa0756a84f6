"""Oracles: scipy, statsmodels, and the definitions: all outcomes counted, or a likelihood maximised by a
search."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest, norm

from gr00t.eval.statistics.intervals import Interval, mcnemar_exact, tango, wilson

TABLES = [(3, 5, 100), (0, 6, 200), (7, 0, 20), (1, 1, 2), (12, 2, 50), (0, 0, 40), (9, 1, 10), (0, 10, 10)]


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (10, 10), (42, 50), (1, 1), (183, 200)])
@pytest.mark.parametrize("confidence", [0.90, 0.95])
def test_wilson_is_that_of_scipy(successes: int, trials: int, confidence: float) -> None:
    expected = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    found = wilson(successes, trials, confidence)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_is_that_of_statsmodels() -> None:
    proportion = pytest.importorskip("statsmodels.stats.proportion", reason="pip install -e '.[dev]'")
    found = wilson(42, 50)
    expected = proportion.proportion_confint(42, 50, method="wilson")
    assert (found.low, found.high) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (0, 1), (1, 5), (6, 0), (8, 66), (4, 4)])
def test_mcnemar_counts_the_coins_that_fall_as_unevenly(wins: int, losses: int) -> None:
    discordant = wins + losses
    if discordant <= 10:
        coins = itertools.product([1, -1], repeat=discordant)
        share = sum(abs(sum(fall)) >= abs(wins - losses) for fall in coins) / 2**discordant
    else:
        share = binomtest(wins, discordant).pvalue
    assert mcnemar_exact(wins, losses) == pytest.approx(share, rel=1e-12)


def test_mcnemar_is_that_of_statsmodels() -> None:
    tables = pytest.importorskip("statsmodels.stats.contingency_tables", reason="pip install -e '.[dev]'")
    expected = tables.mcnemar([[50, 3], [9, 12]], exact=True).pvalue
    assert mcnemar_exact(3, 9) == pytest.approx(expected, rel=1e-12)


def score_statistic(difference: float, wins: int, losses: int, pairs: int) -> float:
    """(estimate - difference) / its standard error under `difference`, the likelihood maximised by a
    search."""

    def minus_log_likelihood(loss_rate: float) -> float:
        rates = (loss_rate + difference, loss_rate, 1 - 2 * loss_rate - difference)
        counts = (wins, losses, pairs - wins - losses)
        return -sum(
            count * math.log(max(rate, 1e-300)) for count, rate in zip(counts, rates, strict=True) if count
        )

    lowest, highest = max(0.0, -difference), (1 - difference) / 2
    found = minimize_scalar(
        minus_log_likelihood, bounds=(lowest, highest), method="bounded", options={"xatol": 1e-12}
    )
    # A search inside the bounds never quite reaches them.
    loss_rate = min((lowest, highest, found.x), key=minus_log_likelihood)
    variance = (2 * loss_rate + difference - difference**2) / pairs
    return ((wins - losses) / pairs - difference) / math.sqrt(variance)


@pytest.mark.parametrize(("wins", "losses", "pairs"), TABLES)
@pytest.mark.parametrize("confidence", [0.90, 0.95])
def test_tango_ends_where_the_score_test_begins_to_reject(wins, losses, pairs, confidence) -> None:
    found = tango(wins, losses, pairs, confidence)
    z = norm.ppf((1 + confidence) / 2)
    if found.low > -1:
        assert score_statistic(found.low, wins, losses, pairs) == pytest.approx(z, abs=2e-4)
    if found.high < 1:
        assert score_statistic(found.high, wins, losses, pairs) == pytest.approx(-z, abs=2e-4)
    inside = np.linspace(found.low, found.high, 40)[1:-1]
    assert all(abs(score_statistic(float(d), wins, losses, pairs)) < z for d in inside)


@pytest.mark.parametrize(("wins", "losses", "pairs"), TABLES)
def test_tango_mirrors_when_the_arms_change_places(wins: int, losses: int, pairs: int) -> None:
    here, there = tango(wins, losses, pairs), tango(losses, wins, pairs)
    assert (here.low, here.high) == pytest.approx((-there.high, -there.low), abs=1e-12)


def test_tango_without_a_discordant_pair_has_the_width_of_a_rate_that_was_never_seen() -> None:
    z2 = norm.ppf(0.975) ** 2
    assert tango(0, 0, 100).high == pytest.approx(z2 / (100 + z2), abs=1e-10)
    assert tango(0, 0, 100).high == pytest.approx(wilson(0, 100).high, abs=1e-10)


def test_tango_covers_in_all_outcomes_of_twelve_pairs() -> None:
    """Exact coverage at discordance .3 and difference -.1: every outcome with its multinomial weight."""
    rates, pairs = (0.1, 0.2, 0.7), 12
    covered = 0.0
    for wins in range(pairs + 1):
        for losses in range(pairs + 1 - wins):
            rest = pairs - wins - losses
            ways = math.comb(pairs, wins) * math.comb(pairs - wins, losses)
            interval = tango(wins, losses, pairs)
            if interval.low <= -0.1 <= interval.high:
                covered += ways * rates[0] ** wins * rates[1] ** losses * rates[2] ** rest
    # Measured: 0.9653.
    assert 0.94 < covered < 0.98


def test_a_hull_holds_both() -> None:
    assert Interval(-1, 2).hull(Interval(-3, 1)) == Interval(-3, 2)


@pytest.mark.parametrize(
    "call", [lambda: wilson(3, 2), lambda: wilson(0, 0), lambda: tango(2, 2, 3), lambda: tango(0, 0, 0)]
)
def test_impossible_counts_are_refused(call) -> None:
    with pytest.raises(ValueError, match="expected"):
        call()
