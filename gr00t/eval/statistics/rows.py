"""What a table has a row for: one arm in one part of the benchmark, what it did, and against the baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gr00t.eval.statistics.intervals import Interval
from gr00t.eval.statistics.noninferiority import NonInferiority
from gr00t.eval.statistics.smoothness import Smoothness


@dataclass(frozen=True)
class Score:
    """What one arm did in one part of the benchmark.

    Attributes:
        episodes: Played, without those that the simulator lost.
        seeds: Different seeds under which they were played.
        successes: Of these.
        simulator_errors: Episodes that the simulator lost twice.
        rate: successes / episodes, in [0, 1]; None before the first episode.
        interval: Wilson's 95 % interval of it.
        lifted_wrong: Episodes in which an object was lifted that the task does not speak of.
        lifted_wrong_interval: Wilson's 95 % interval of lifted_wrong / episodes.
        steps: Mean control steps of the successes.
        queries: Mean requests to the policy per episode.
        jerk: Mean over the episodes of the length of the second difference of the executed motions.
        query_ms: Median and 95th percentile of the milliseconds per request; None where nothing was asked.
    """

    episodes: int
    seeds: int
    successes: int
    simulator_errors: int
    rate: float | None
    interval: Interval | None
    lifted_wrong: int
    lifted_wrong_interval: Interval | None
    steps: float | None
    queries: float | None
    jerk: float | None
    query_ms: tuple[float, float] | None


@dataclass(frozen=True)
class Comparison:
    """One arm against the baseline over the pairs of one part of the benchmark.

    Attributes:
        pairs: Episodes that both arms played and the simulator did not lose.
        lost: Those that it lost in one of them or in both.
        planned: Pairs that the finished run has, where they were all planned alike.
        tasks: Tasks that have pairs.
        wins: Pairs that only the arm solves.
        losses: Pairs that only the baseline solves.
        both: Pairs that both solve.
        neither: Pairs that none solves.
        identical: Pairs in which both arms executed the very same actions.
        difference: Success rate of the arm minus that of the baseline over the pairs, in [-1, 1].
        interval: The wider end on either side of the two that follow.
        bootstrap: 95 % over tasks and pairs within them.
        tango: 95 %, score.
        bounds: The two one-sided 95 % bounds of the difference, wider of both methods.
        mcnemar: Exact two-sided p-value of equally good arms.
        retention: Success of the arm in percent of the baseline's, over the pairs; None where that is 0.
        retention_interval: 95 % of it; no end above where the baseline solves too little.
        expected_retention: What the documentation expects in this suite, in percent.
        jerk_ratio: Mean jerk of the arm over that of the baseline, over the pairs.
        judgement: Non-inferiority at the margin.
        smoothness: How roughly the arm moves, against the baseline; of single tasks nothing.
    """

    pairs: int
    lost: int
    planned: int
    tasks: int
    wins: int
    losses: int
    both: int
    neither: int
    identical: int
    difference: float
    interval: Interval
    bootstrap: Interval
    tango: Interval
    bounds: Interval
    mcnemar: float
    retention: float | None
    retention_interval: Interval | None
    expected_retention: Interval | None
    jerk_ratio: float | None
    judgement: NonInferiority
    smoothness: Sequence[Smoothness] = ()


@dataclass(frozen=True)
class Row:
    """One arm in one part: a task, a suite (`task` is None), or all of it (`suite` is None too)."""

    arm: str
    suite: str | None
    task: int | None
    language: str
    planned: int
    score: Score
    comparison: Comparison | None


@dataclass(frozen=True)
class ComparedArm:
    """An arm and its kind; `is_control` if it stands beside policies that are to be judged."""

    name: str
    kind: str
    is_control: bool
