"""Oracles: the fixed-number rule where there is one look, Student's test of scipy, and simulated runs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from gr00t.eval.interim.records import LookPlan
from gr00t.eval.statistics.intervals import tango
from gr00t.eval.statistics.sequential import (
    between_tasks,
    chance_of_decision,
    judge_look,
    plan_looks,
    repeated_interval,
)


def tables(*rows: tuple[int, int, int, int]) -> np.ndarray:
    return np.array(rows, dtype=np.int64)


@pytest.fixture(scope="module")
def plan() -> LookPlan:
    return plan_looks(5, 1500, 3.0, "bf16", 0)


def test_looks_are_whole_rounds_and_reach_the_most(plan: LookPlan) -> None:
    assert plan.pairs == [100, 125, 160, 200, 250, 315, 395, 495, 620, 775, 970, 1215, 1500]
    assert plan.critical[-1] < plan.critical[1]
    assert all(count % 10 == 0 for count in plan_looks(10, 1234, 3.0, "bf16", 0).pairs)
    assert plan_looks(5, 60, 3.0, "bf16", 0).pairs == [60]
    assert plan_looks(90, 1500, 3.0, "bf16", 0).pairs[0] == 180
    with pytest.raises(ValueError, match="at most 9 pairs of 5 tasks: expected at least 10"):
        plan_looks(5, 9, 3.0, "bf16", 0)


def test_the_bound_over_tasks_is_students() -> None:
    """Tasks that differ, of equal size: the interval of their means, as scipy has it."""
    found = tables((80, 10, 10, 0), (80, 2, 18, 0), (80, 18, 2, 0), (80, 15, 5, 0))
    means = (found[:, 1] - found[:, 2]) / 100
    expected = stats.t.interval(0.95, 3, loc=means.mean(), scale=stats.sem(means))
    bounds = repeated_interval(found, float(stats.norm.ppf(0.975)))
    assert (bounds.low, bounds.high) == pytest.approx(expected, abs=1e-12)
    assert between_tasks(found) == pytest.approx(stats.sem(means) ** 2)


def test_tasks_that_agree_by_chance_narrow_nothing() -> None:
    found = tables(*[(90, 5, 5, 0)] * 5)
    bounds, score = repeated_interval(found, 1.96), tango(25, 25, 500, 2 * stats.norm.cdf(1.96) - 1)
    assert (bounds.low, bounds.high) == (score.low, score.high)


@pytest.mark.parametrize(
    ("number", "found", "decision"),
    [
        # 315 pairs without a discordant one are the first that prove 3 points at z = 2.81.
        (5, [(50, 0, 0, 0)] * 5, "goes on"),
        (6, [(63, 0, 0, 0)] * 5, "non-inferior"),
        (1, [(2, 0, 18, 0)] * 4 + [(4, 0, 16, 0)], "inferior"),
        (13, [(200, 30, 70, 0)] * 4 + [(200, 70, 30, 0)], "undecided"),
        # Tasks that disagree by so much will disagree after all pairs.
        (10, [(77, 0, 78, 0)] * 2 + [(77, 78, 0, 0)] * 2 + [(77, 36, 42, 0)], "hopeless"),
        (7, [(40, 0, 39, 0)] * 2 + [(40, 39, 0, 0)] * 2 + [(40, 18, 21, 0)], "goes on"),
    ],
)
def test_decisions(
    plan: LookPlan, number: int, found: list[tuple[int, int, int, int]], decision: str
) -> None:
    look = judge_look("w4a8", number, plan, tables(*found), lost=1)
    assert look.decision == decision
    assert (look.pairs, look.lost) == (sum(map(sum, found)), 1)
    assert look.low <= look.difference <= look.high


def test_the_chance_of_a_decision_is_that_of_simulated_continuations() -> None:
    """Oracle: a true difference drawn from what is known, the rest of the pairs played, the last look."""
    found, last, critical, share = tables(*[(100, 9, 11, 4)] * 5), 1500, 1.87, 0.03
    pairs, wins, losses = 620, 45, 55
    rng = np.random.default_rng(0)
    rates = rng.dirichlet([wins + 0.5, losses + 0.5, pairs - wins - losses + 0.5], size=20_000)
    more = np.array([rng.multinomial(last - pairs, rate) for rate in rates])
    w, lost = wins + more[:, 0], losses + more[:, 1]
    difference = (w - lost) / last
    half = critical * np.sqrt(((w + lost) / last - difference**2) / last)
    decided = np.mean(np.abs(difference + share) > half)
    assert chance_of_decision(found, last, critical, share) == pytest.approx(decided, abs=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("tasks", [5, 10])
@pytest.mark.parametrize("spread", [0.0, 0.03, 0.08])
def test_the_error_holds_where_pairs_of_a_task_resemble_each_other(tasks: int, spread: float) -> None:
    """What `scripts/bench/sequential.py` prints, by the rule itself, at a true loss of the margin."""
    from scripts.bench.sequential import Truth, simulate

    found = simulate(Truth(tasks, 0.1, -0.03, spread), runs=400, seed=1)
    # Three standard errors above 5 %.
    assert found.non_inferior <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)
    assert found.inferior <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


def test_the_simulation_decides_as_the_rule_does(plan: LookPlan) -> None:
    from scripts.bench.sequential import decisions

    rng = np.random.default_rng(2)
    codes = {"non-inferior": 1, "inferior": -1, "hopeless": 2, "goes on": 0, "undecided": 0}
    met = set()
    for number in (3, 8, 11, 13):
        each = plan.pairs[number - 1] // 5
        win, loss = rng.uniform(0, 0.15, (60, 1)), rng.uniform(0, 0.2, (60, 1))
        wins = rng.binomial(each, np.broadcast_to(win, (60, 5)))
        losses = rng.binomial(each - wins, np.broadcast_to(loss, (60, 5)))
        last = None if number == 13 else plan.critical[-1]
        found = decisions(wins, losses, each, plan.critical[number - 1], last)
        for run in range(60):
            table = np.stack([0 * wins[run], wins[run], losses[run], each - wins[run] - losses[run]], axis=1)
            decision = judge_look("w4a8", number, plan, table).decision
            assert codes[decision] == found[run], (number, table)
            met.add(decision)
    assert met == set(codes)
