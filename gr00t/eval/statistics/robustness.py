"""What an arm loses under a perturbation of LIBERO-PRO: the base suite against the perturbed one.

The perturbed suites have initial states of their own, so that their episodes make no pairs with those of the
base suite; tasks do, one for one. The interval of a drop is the smallest that holds Newcombe's, for which
episodes are independent, and Student's over the differences of the tasks, which knows that a perturbation
hits some tasks and spares others. What quantization loses under a perturbation is paired: both arms play the
same perturbed episodes.

Coverage of nominal 95 % intervals in 1,500 simulated runs of 10 tasks, 85 % solved, 30 points lost; `pytest
--slow tests/eval/statistics/test_robustness.py` simulates the like anew:

    episodes per task, sd of the drop over tasks     5, 0   10, 0   50, 0   5, 25 %   50, 25 %
                                                     97 %    97 %    97 %      96 %       95 %
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from gr00t.eval.statistics.intervals import Interval, newcombe
from gr00t.eval.statistics.rows import Comparison, Row
from gr00t.libero.tasks.perturbations import split_suite

# Successes, and the episodes of which they are.
Solved = tuple[int, int]


@dataclass(frozen=True)
class Drop:
    """One arm under one perturbation, over the tasks that it has played in both suites.

    Attributes:
        arm: Its name.
        base: The suite.
        suite: The perturbed one.
        perturbation: How it is perturbed, one of `PERTURBATIONS`.
        tasks: How many.
        base_successes: Episodes solved of
        base_episodes: those played in the base suite.
        successes: Episodes solved of
        episodes: those played in the perturbed suite.
        drop: Success rate in the base suite minus that in the perturbed one, in [-1, 1].
        interval: 95 % of it.
        against_baseline: The arm against the baseline in the perturbed suite, over all pairs; None for the
            baseline itself.
        against_baseline_in_base: The same in the base suite.
    """

    arm: str
    base: str
    suite: str
    perturbation: str
    tasks: int
    base_successes: int
    base_episodes: int
    successes: int
    episodes: int
    drop: float
    interval: Interval
    against_baseline: Comparison | None
    against_baseline_in_base: Comparison | None

    @property
    def base_rate(self) -> float:
        """Success rate in the base suite, in [0, 1]."""
        return self.base_successes / self.base_episodes

    @property
    def rate(self) -> float:
        """Success rate in the perturbed suite, in [0, 1]."""
        return self.successes / self.episodes


def drops(rows: Sequence[Row]) -> list[Drop]:
    """Every arm under every perturbation that was played beside its base suite, in the order of the rows."""
    found = []
    for row in rows:
        if row.suite is None or row.task is not None:
            continue
        base, perturbation = split_suite(row.suite)
        whole = next((other for other in rows if _part(other) == (row.arm, base, None)), None)
        if perturbation and whole is not None:
            drop = _drop(row, whole, rows)
            found += [] if drop is None else [drop]
    return found


def _part(row: Row) -> tuple[str, str | None, int | None]:
    return row.arm, row.suite, row.task


def _drop(row: Row, whole: Row, rows: Sequence[Row]) -> Drop | None:
    """None where no task has episodes in both."""
    ours, theirs = (
        {other.task: other.score for other in rows if _part(other) == (*_part(part)[:2], other.task)}
        for part in (row, whole)
    )
    common = [
        (ours[task], theirs[task])
        for task in ours.keys() & theirs.keys()
        if task is not None and ours[task].episodes and theirs[task].episodes
    ]
    if not common:
        return None
    counts = [((now.successes, now.episodes), (was.successes, was.episodes)) for now, was in common]
    perturbed, base = _summed(now for now, _ in counts), _summed(was for _, was in counts)
    assert row.suite is not None
    name, perturbation = split_suite(row.suite)
    return Drop(
        arm=row.arm,
        base=name,
        suite=row.suite,
        perturbation=perturbation,
        tasks=len(common),
        base_successes=base[0],
        base_episodes=base[1],
        successes=perturbed[0],
        episodes=perturbed[1],
        drop=base[0] / base[1] - perturbed[0] / perturbed[1],
        interval=drop_interval(counts),
        against_baseline=row.comparison,
        against_baseline_in_base=whole.comparison,
    )


def drop_interval(counts: Sequence[tuple[Solved, Solved]]) -> Interval:
    """95 % interval of a drop, from successes and episodes of each task, perturbed and in the base suite."""
    perturbed, base = _summed(now for now, _ in counts), _summed(was for _, was in counts)
    drop = base[0] / base[1] - perturbed[0] / perturbed[1]
    half = 0.0
    if len(counts) > 1:
        by_task = [was[0] / was[1] - now[0] / now[1] for now, was in counts]
        error = float(np.std(by_task, ddof=1)) / math.sqrt(len(counts))
        half = float(stdtrit(len(counts) - 1, 0.975)) * error
    over_tasks = Interval(max(-1.0, drop - half), min(1.0, drop + half))
    return newcombe(base, perturbed).hull(over_tasks)


def _summed(counts: Iterable[Solved]) -> Solved:
    successes, episodes = zip(*counts, strict=True)
    return sum(successes), sum(episodes)
