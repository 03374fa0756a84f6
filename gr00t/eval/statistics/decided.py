"""Verdicts of runs that play until they are decided: what their looks found stands, and nothing else.

A verdict of a fixed number of pairs, made of a run that ended when it looked good, errs too often. So a part
of the benchmark that one such run played has the judgement and the bounds of its last look; where margin,
baseline or the joining with other runs make another question of it, a note says that the error is not kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from gr00t.eval.interim.records import Look, LookPlan
from gr00t.eval.statistics.intervals import Interval
from gr00t.eval.statistics.noninferiority import NonInferiority, Outcome
from gr00t.eval.statistics.rows import Comparison
from gr00t.eval.statistics.runs import Run

_OUTCOMES: dict[str, Outcome] = {"non-inferior": "non-inferior", "inferior": "inferior"}


@dataclass(frozen=True)
class LookTaken:
    """The last look at an arm.

    Attributes:
        suite: Of the run.
        arm: Its name.
        number: Of the look, from 1 on.
        of: Looks that were planned.
        pairs: Played by both arms at the look.
        most: Pairs of the last look.
        critical: The value of z.
        difference: Of the success rates, arm - baseline.
        bounds: At this look.
        decision: What followed.
        counts: Whether it is the judgement of this table: the same margin and baseline, and no other run.
    """

    suite: str
    arm: str
    number: int
    of: int
    pairs: int
    most: int
    critical: float
    difference: float
    bounds: Interval
    decision: str
    counts: bool


def looks_taken(runs: Sequence[Run], baseline: str, margin: float) -> Iterator[LookTaken]:
    """The last look at each arm of every run that plays until it is decided."""
    for run in runs:
        plan = run.look_plan
        if plan is None:
            continue
        alone = [other.suite for other in runs].count(run.suite) == 1
        for name in run.arm_names:
            if (look := run.looks.get(name)) is not None:
                yield LookTaken(
                    suite=run.suite,
                    arm=name,
                    number=look.number,
                    of=len(plan.pairs),
                    pairs=look.pairs,
                    most=plan.max_pairs,
                    critical=plan.critical[look.number - 1],
                    difference=look.difference,
                    bounds=Interval(look.low, look.high),
                    decision=look.decision,
                    counts=alone and (plan.baseline, plan.margin) == (baseline, margin),
                )


def as_looked_at(
    comparison: Comparison, runs: Sequence[Run], suite: str | None, arm: str, asked: tuple[str, float]
) -> Comparison:
    """A comparison of a part with the judgement and the bounds of the last look, if there is one for it.

    Args:
        comparison: As a fixed number of pairs is judged.
        runs: All of the table.
        suite: The part; None for all.
        arm: Which is compared.
        asked: The baseline and the margin of the table.
    """
    chosen = [run for run in runs if suite is None or run.suite == suite]
    plan, look = (chosen[0].look_plan, chosen[0].looks.get(arm)) if len(chosen) == 1 else (None, None)
    if plan is None or (plan.baseline, plan.margin) != asked:
        return comparison
    judgement = _judgement(look, plan)
    bounds = comparison.bounds if look is None else Interval(look.low, look.high)
    return replace(comparison, judgement=judgement, bounds=bounds)


def _judgement(look: Look | None, plan: LookPlan) -> NonInferiority:
    if look is None:
        return NonInferiority("undecided", plan.margin, by_looks=", before its first look")
    told = {
        "hopeless": f" after {look.pairs:,} pairs, and hardly to be decided by {plan.max_pairs:,}",
        "undecided": f" after {look.pairs:,} pairs, the most that were to be played",
        "goes on": f" at look {look.number} of {len(plan.pairs)}, after {look.pairs:,} pairs",
        "control": "",
    }
    words = told.get(look.decision, f" after {look.pairs:,} pairs")
    return NonInferiority(_OUTCOMES.get(look.decision, "undecided"), plan.margin, by_looks=words)
