"""Oracles: every resample of a small case counted out, statsmodels' cluster-robust variance, simulated
coverage."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from scipy.stats import t

from gr00t.eval.statistics.bootstrap import task_bootstrap
from gr00t.eval.statistics.intervals import tango

# Pairs of a task: solved by both, by the arm only, by the baseline only, by neither.
DISAGREEING = np.array([[9, 8, 1, 2], [12, 0, 8, 0], [15, 1, 1, 3], [10, 0, 5, 5], [16, 4, 0, 0]])
ALIKE = np.array([[14, 2, 2, 2]] * 10)


def differences_of(table: np.ndarray) -> list[int]:
    return [0] * table[0] + [1] * table[1] + [-1] * table[2] + [0] * table[3]


def enumerated(tables: np.ndarray) -> Counter[float]:
    """Weight of every resampled difference: all draws of tasks, and within each all draws of its pairs."""
    pairs = [differences_of(table) for table in tables]
    means = [np.mean(values) for values in pairs]
    overall, tasks, size = np.mean(means), len(pairs), len(pairs[0])
    noise = np.mean([np.var(values, ddof=1) for values in pairs]) / size
    spread = np.var(means, ddof=1)
    student = t.ppf(0.975, tasks - 1) / 1.959963984540054
    excess = max(0.0, spread - noise)
    between = student * np.sqrt(excess / (spread * (tasks - 1) / tasks)) if excess else 0.0
    found: Counter[float] = Counter()
    for drawn in itertools.product(range(tasks), repeat=tasks):
        for draws in itertools.product(*(itertools.product(pairs[task], repeat=size) for task in drawn)):
            parts = [
                between * (means[task] - overall) + np.sqrt(size / (size - 1)) * (np.mean(draw) - means[task])
                for task, draw in zip(drawn, draws, strict=True)
            ]
            found[round(float(np.clip(overall + np.mean(parts), -1, 1)), 9)] += 1
    return found


@pytest.mark.parametrize("tables", [[[1, 2, 0, 0], [1, 0, 2, 0]], [[1, 1, 0, 1], [2, 1, 0, 0]]])
def test_every_resample_of_two_tasks_comes_as_often_as_it_should(tables) -> None:
    expected = enumerated(np.array(tables))
    total = sum(expected.values())
    resamples = 200_000
    seen = Counter(np.round(task_bootstrap(np.array(tables), resamples).differences, 9).tolist())
    assert seen.keys() <= expected.keys()
    # 0.005 is 4.5 standard deviations of a share of one half.
    assert max(abs(seen[value] / resamples - expected[value] / total) for value in expected) < 0.005


def cluster_robust_error(tables: np.ndarray) -> float:
    api = pytest.importorskip("statsmodels.api", reason="pip install -e '.[dev]'")
    values = [value for table in tables for value in differences_of(table)]
    groups = [task for task, table in enumerate(tables) for _ in range(table.sum())]
    fit = api.OLS(values, np.ones(len(values))).fit(cov_type="cluster", cov_kwds={"groups": np.array(groups)})
    return float(fit.bse[0])


def test_where_tasks_disagree_the_spread_is_that_of_statsmodels_cluster_robust_variance() -> None:
    found = task_bootstrap(DISAGREEING)
    student = t.ppf(0.975, 4) / 1.959963984540054
    # The noise within tasks is not widened by the few tasks; here it is a small part.
    error = cluster_robust_error(DISAGREEING)
    assert error < found.differences.std() < 1.01 * student * error
    # 13 won and 15 lost of 100.
    assert found.differences.mean() == pytest.approx(-0.02, abs=0.01)


def test_where_tasks_agree_the_spread_is_that_of_independent_pairs() -> None:
    """The cluster-robust error is zero here; the bootstrap does not believe it."""
    assert cluster_robust_error(ALIKE) == pytest.approx(0, abs=1e-9)
    values = [value for table in ALIKE for value in differences_of(table)]
    within = np.sqrt(np.var(differences_of(ALIKE[0]), ddof=1) / len(values))
    assert task_bootstrap(ALIKE).differences.std() == pytest.approx(within, rel=0.02)


def test_one_task_has_an_interval_and_unequal_tasks_count_by_their_pairs() -> None:
    assert task_bootstrap(np.array([[5, 3, 1, 1]])).difference().low < 0.2
    uneven = task_bootstrap(np.array([[0, 30, 0, 0], [0, 0, 10, 0]]), resamples=50_000)
    # All drawn tasks are the first, one of each, or all the second: 1, 0.5 and -1 before the scaling.
    assert np.median(uneven.differences) == pytest.approx(0.5)


def test_no_discordant_pair_has_no_width_here_which_is_why_tango_stands_beside_it() -> None:
    found = task_bootstrap(np.array([[9, 0, 0, 1]] * 10)).difference()
    assert (found.low, found.high) == (0, 0)
    assert tango(0, 0, 100).low < -0.03


def test_a_single_pair_per_task_is_noise_between_tasks() -> None:
    tables = np.array([[0, 1, 0, 0]] * 3 + [[1, 0, 0, 0]] * 9)
    error = np.std([1] * 3 + [0] * 9, ddof=1) / np.sqrt(12)
    student = t.ppf(0.975, 11) / 1.959963984540054
    assert task_bootstrap(tables).differences.std() == pytest.approx(student * error, rel=0.02)


def test_the_same_seed_gives_the_same_resamples() -> None:
    first, second = task_bootstrap(DISAGREEING), task_bootstrap(DISAGREEING)
    assert np.array_equal(first.differences, second.differences)
    assert not np.array_equal(first.differences, task_bootstrap(DISAGREEING, seed=1).differences)


def test_a_ratio_is_that_of_the_same_resamples_and_may_have_no_end() -> None:
    found = task_bootstrap(DISAGREEING)
    expected = np.quantile(found.arm / found.baseline, [0.025, 0.975])
    assert (found.ratio().low, found.ratio().high) == pytest.approx(tuple(expected), rel=1e-3)
    assert task_bootstrap(np.array([[0, 2, 1, 7]])).ratio().high == np.inf


@pytest.mark.parametrize(("tasks", "pairs", "spread"), [(10, 10, 0.0), (10, 20, 0.1), (4, 50, 0.0)])
def test_ninety_five_percent_covers_about_ninety_five_percent(tasks: int, pairs: int, spread: float) -> None:
    """Simulated runs at a discordance of 15 %; tasks alone cover 83 to 92 % here."""
    rng = np.random.default_rng(0)
    runs = 400
    covered = 0
    for _ in range(runs):
        found = task_bootstrap(simulated_runs(rng, tasks, pairs, spread), resamples=400).difference()
        covered += found.low <= 0 <= found.high
    # Measured with 1,500 runs: 95.7, 92.9 to 93.5 and 96.1 %; 400 runs are certain to 2 %.
    assert 0.91 < covered / runs < 0.985, covered / runs


def simulated_runs(rng: np.random.Generator, tasks: int, pairs: int, spread: float) -> np.ndarray:
    """Counts (tasks, 4) at a discordance of 15 %, the mean difference over all conceivable tasks being 0."""
    shift = np.clip(rng.normal(0, spread, tasks), -0.15, 0.15)
    wins, losses = (0.15 + shift) / 2, (0.15 - shift) / 2
    return rng.multinomial(pairs, np.stack([np.full(tasks, 0.8), wins, losses, np.full(tasks, 0.05)], axis=1))


def plain_bootstrap(rng: np.random.Generator, tables: np.ndarray, also_within: bool) -> np.ndarray:
    """Tasks drawn, and their pairs as they are or drawn too; nothing is rescaled."""
    tasks, pairs = len(tables), tables[0].sum()
    drawn = tables[rng.integers(tasks, size=(400, tasks))]
    counts = rng.multinomial(pairs, drawn / pairs) if also_within else drawn
    return (counts[..., 1] - counts[..., 2]).mean(axis=1) / pairs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tasks", "pairs", "spread", "coverage"),
    [
        (10, 10, 0.0, (91.7, 98.3, 95.7)),
        (10, 50, 0.0, (90.1, 99.1, 96.3)),
        (10, 50, 0.1, (89.8, 93.7, 92.9)),
        (4, 50, 0.0, (82.7, 97.9, 96.1)),
    ],
)
def test_the_coverage_of_three_ways_is_the_documented_one(tasks, pairs, spread, coverage) -> None:
    rng = np.random.default_rng(1)
    covered = np.zeros(3)
    for _ in range(1500):
        tables = simulated_runs(rng, tasks, pairs, spread)
        ways = [plain_bootstrap(rng, tables, within) for within in (False, True)]
        for way, differences in enumerate([*ways, task_bootstrap(tables, 400).differences]):
            low, high = np.quantile(differences, [0.025, 0.975], method="inverted_cdf")
            covered[way] += low <= 0 <= high
    # Three standard errors of the difference of two shares of 1,500 runs, at 90 %.
    assert 100 * covered / 1500 == pytest.approx(coverage, abs=3.3)


@pytest.mark.parametrize("tables", [[[0, 0, 0, 0]], [[1, 2, 3]], np.zeros((0, 4), int)])
def test_other_shapes_and_empty_tasks_are_refused(tables) -> None:
    with pytest.raises(ValueError, match="at least one pair per task"):
        task_bootstrap(np.array(tables))
