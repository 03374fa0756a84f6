"""The verdict over run folders: every arm against the baseline, in all, per suite and per task.

A rate is taken over all episodes that an arm has played, a difference over the pairs that it shares with the
baseline. An interval of a difference is the smallest one that holds both the bootstrap over tasks and Tango's
score interval: the first knows that episodes of a task resemble each other, the second that a few dozen pairs
without a discordant one prove little. A verdict needs both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from gr00t.eval.margin import DEFAULT_MARGIN
from gr00t.eval.rollout.records import EpisodeRecord
from gr00t.eval.statistics.bootstrap import task_bootstrap
from gr00t.eval.statistics.decided import LookTaken, as_looked_at, looks_taken
from gr00t.eval.statistics.intervals import Interval, mcnemar_exact, tango, wilson
from gr00t.eval.statistics.noninferiority import CONFIDENCE, judge
from gr00t.eval.statistics.pairs import Pairs, pair_up
from gr00t.eval.statistics.robustness import Drop, drops
from gr00t.eval.statistics.rows import ComparedArm, Comparison, Row, Score
from gr00t.eval.statistics.runs import CONTROL_KINDS, Run, check_comparable, find_arm
from gr00t.eval.statistics.smoothness import smoothness
from gr00t.eval.statistics.versions import known_versions
from gr00t.libero.tasks.suites import LiberoError

# Percent of the full-precision success that the W4A8 documentation expects to be kept; not a measurement.
EXPECTED_RETENTION = {
    "libero_spatial": Interval(96, 98),
    "libero_object": Interval(96, 98),
    "libero_goal": Interval(95, 98),
}


@dataclass(frozen=True)
class Verdicts:
    """Everything that a table or a report says.

    Attributes:
        baseline: Name of the arm that the others are compared with.
        margin: Of non-inferiority, in percentage points.
        arms: The baseline first, then the others as they were asked for.
        suites: In the order of the runs.
        rows: For every arm: all, each suite, each task.
        drops: What each arm loses under each perturbation of a suite, where both suites were played.
        versions: Of the simulators that played, by package; more than one where mixing was allowed.
        looks: The last look at each arm of every run that plays until it is decided.
    """

    baseline: str
    margin: float
    arms: Sequence[ComparedArm]
    suites: Sequence[str]
    rows: Sequence[Row]
    drops: Sequence[Drop]
    versions: Mapping[str, Sequence[str]]
    looks: Sequence[LookTaken] = ()

    def row(self, arm: str, suite: str | None = None, task: int | None = None) -> Row:
        """The row of an arm; of everything by default."""
        return next(row for row in self.rows if (row.arm, row.suite, row.task) == (arm, suite, task))

    @property
    def tasks(self) -> list[Row]:
        """The baseline's row of every task."""
        return [row for row in self.rows if row.arm == self.baseline and row.task is not None]

    @property
    def is_finished(self) -> bool:
        """Whether every arm has played, or lost, all that was planned."""
        totals = [self.row(arm.name) for arm in self.arms]
        return all(row.score.episodes + row.score.simulator_errors >= row.planned for row in totals)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; what is infinite or not a number becomes None."""
        plain: dict[str, Any] = _finite(asdict(self))
        return plain


def compare(
    runs: Sequence[Run],
    *,
    baseline: str | None = None,
    margin: float = DEFAULT_MARGIN,
    allow_mixed: bool = False,
) -> Verdicts:
    """Compare all arms of one or more run folders, finished or not.

    Args:
        runs: Joined where they agree in everything that changes results.
        baseline: Name of an arm; by default `bf16`, else the first arm that is no control, else the first.
        margin: Of non-inferiority, in percentage points.
        allow_mixed: Whether episodes of different versions of the simulator may make pairs.

    Raises:
        LiberoError: if there are no episodes, the baseline is unknown, or the runs make no common table.
        ValueError: for a margin that is not between 0 and 100.
    """
    if not 0 < margin < 100:
        raise ValueError(f"margin {margin}: expected percentage points above 0 and below 100")
    check_comparable(runs, allow_mixed=allow_mixed)
    if not any(run.records for run in runs):
        raise LiberoError(f"no episodes in {', '.join(str(run.path) for run in runs)} yet")
    arms = _arms(runs, baseline)
    base = arms[0].name
    by_arm = {arm.name: [r for run in runs for r in run.records if r.key.arm == arm.name] for arm in arms}
    rows = []
    for suite, task, language in _parts(runs):
        reference = _within(by_arm[base], suite, task)
        for arm in arms:
            ours = _within(by_arm[arm.name], suite, task)
            planned = _planned(runs, suite, task, arm.name)
            comparison = None
            if arm.name != base:
                expected = suite if task is None and arm.kind not in CONTROL_KINDS else None
                pairs = pair_up(ours, reference)
                comparison = _compare(pairs, planned, margin, expected)
                if comparison is not None and task is None:
                    comparison = replace(comparison, smoothness=smoothness(pairs))
                    comparison = as_looked_at(comparison, runs, suite, arm.name, (base, margin))
            rows.append(Row(arm.name, suite, task, language, planned, _score(ours), comparison))
    suites = list(dict.fromkeys(run.suite for run in runs))
    looks = list(looks_taken(runs, base, margin))
    return Verdicts(base, margin, arms, suites, rows, drops(rows), known_versions(runs), looks)


def _arms(runs: Sequence[Run], baseline: str | None) -> list[ComparedArm]:
    kinds = {name: run.kind(name) for run in runs for name in run.arm_names}
    judges_policies = any(kind not in CONTROL_KINDS for kind in kinds.values())
    # Experts may be compared with each other; what acts with closed eyes is never more than a control.
    controls = [
        name
        for name, kind in kinds.items()
        if kind in CONTROL_KINDS and (judges_policies or kind != "expert")
    ]
    if baseline is not None:
        base = find_arm(baseline, kinds)
    elif "bf16" in kinds:
        base = "bf16"
    else:
        base = next((name for name in kinds if name not in controls), next(iter(kinds)))
    arms = [ComparedArm(name, kind, name in controls and name != base) for name, kind in kinds.items()]
    return sorted(arms, key=lambda arm: (arm.name != base, arm.is_control))


def _parts(runs: Sequence[Run]) -> list[tuple[str | None, int | None, str]]:
    """All, each suite, each task, with the instruction."""
    languages = {(r.key.suite, r.key.task): r.conditions.language for run in runs for r in run.records}
    suites = list(dict.fromkeys(run.suite for run in runs))
    tasks = sorted(languages, key=lambda part: (suites.index(part[0]), part[1]))
    return [
        (None, None, ""),
        *((suite, None, "") for suite in suites),
        *((suite, task, languages[suite, task]) for suite, task in tasks),
    ]


def _planned(runs: Sequence[Run], suite: str | None, task: int | None, arm: str) -> int:
    """Episodes of an arm that were asked for in a part."""
    return sum(run.planned_episodes(arm, task) for run in runs if suite is None or run.suite == suite)


def _within(records: Iterable[EpisodeRecord], suite: str | None, task: int | None) -> list[EpisodeRecord]:
    return [
        r for r in records if (suite is None or r.key.suite == suite) and (task is None or r.key.task == task)
    ]


def _score(records: Sequence[EpisodeRecord]) -> Score:
    played = [record for record in records if record.was_played]
    successes = [record for record in played if record.outcome.success]
    lifted = sum(record.outcome.lifted_wrong is not None for record in played)
    times = [ms for record in played for ms in record.timing.query_ms]
    return Score(
        episodes=len(played),
        seeds=len({record.key.seed for record in played}),
        successes=len(successes),
        simulator_errors=len(records) - len(played),
        rate=len(successes) / len(played) if played else None,
        interval=wilson(len(successes), len(played)) if played else None,
        lifted_wrong=lifted,
        lifted_wrong_interval=wilson(lifted, len(played)) if played else None,
        steps=_mean([record.outcome.steps for record in successes]),
        queries=_mean([record.outcome.queries for record in played]),
        jerk=_mean([record.outcome.jerk for record in played]),
        query_ms=(float(np.quantile(times, 0.5)), float(np.quantile(times, 0.95))) if times else None,
    )


def _compare(pairs: Pairs, planned: int, margin: float, suite: str | None) -> Comparison | None:
    if not pairs.pairs:
        return None
    both, wins, losses, neither = pairs.counts()
    count = len(pairs.pairs)
    tables = pairs.by_task()
    resampled = task_bootstrap(tables)
    difference = (wins - losses) / count
    bootstrap, score = resampled.difference(), tango(wins, losses, count)
    bounds = resampled.difference(CONFIDENCE).hull(tango(wins, losses, count, CONFIDENCE))
    solved = (both + losses) / count
    retention = None if solved == 0 else 100 * (1 + difference / solved)
    retention_interval = None
    if solved:
        # Tango's ends, at the observed rate of the baseline: pairs that all agree do not prove 100 %.
        by_score = Interval(1 + score.low / solved, 1 + score.high / solved)
        ratio = resampled.ratio().hull(by_score)
        retention_interval = Interval(max(0.0, 100 * ratio.low), 100 * ratio.high)
    jerks = [(pair.arm.outcome.jerk, pair.baseline.outcome.jerk) for pair in pairs.pairs.values()]
    shaken = math.fsum(theirs for _, theirs in jerks)
    return Comparison(
        pairs=count,
        lost=pairs.lost,
        planned=planned,
        tasks=len(tables),
        wins=wins,
        losses=losses,
        both=both,
        neither=neither,
        identical=sum(
            pair.arm.outcome.actions_hash is not None
            and pair.arm.outcome.actions_hash == pair.baseline.outcome.actions_hash
            for pair in pairs.pairs.values()
        ),
        difference=difference,
        interval=bootstrap.hull(score),
        bootstrap=bootstrap,
        tango=score,
        bounds=bounds,
        mcnemar=mcnemar_exact(wins, losses),
        retention=retention,
        retention_interval=retention_interval,
        expected_retention=EXPECTED_RETENTION.get(suite) if suite else None,
        jerk_ratio=math.fsum(ours for ours, _ in jerks) / shaken if shaken else None,
        judgement=judge(count, wins + losses, difference, bounds, margin),
    )


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
