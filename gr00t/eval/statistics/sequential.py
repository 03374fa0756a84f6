"""A verdict that is looked for several times while a run goes on, until there is one.

At each look of a plan that was fixed before the first episode the one-sided tests of `noninferiority` are
made, both at the critical value that `interim.boundaries` gives this look: so over all looks together an arm
that truly loses the margin is called non-inferior in at most alpha of all runs, and inferior in as many.
The bounds are at the same time a repeated confidence interval (Jennison and Turnbull, J. R. Stat. Soc. B 51
(1989) 305): they hold at all looks together.

An end is the wider of two, as in a verdict of a fixed number of pairs. Tango's score interval takes pairs for
independent. The other is Student's, over the means of tasks: pairs of one task resemble each other, and five
tasks are four degrees of freedom. The bootstrap of a fixed number of pairs shrinks its spread between tasks
where these seem to agree, which over many looks errs too often (simulated with five tasks, 5.9 % instead of
5 %); and its 10,000 resamples say nothing of the tails that early looks need.
`scripts/bench/sequential.py` simulates the rule.

From half of the pairs on, runs that will not decide end: when the pairs that are left would bring either
verdict in fewer than one of twenty runs, by what is known now. That adds no error, heeded or not.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from gr00t.eval.interim.boundaries import critical_values, spent
from gr00t.eval.interim.records import Decision, Look, LookPlan
from gr00t.eval.statistics.intervals import Interval, tango
from gr00t.eval.statistics.noninferiority import ALPHA

RULE = "alpha spending, Kim and DeMets 1987, power 1.5"

FIRST_LOOK = 100
FUTILITY = 0.05
# From look to look: a shorter way saves hardly a pair and costs a start of the arms.
_GROWTH = 1.25


def plan_looks(tasks: int, max_pairs: int, margin: float, baseline: str, order_seed: int) -> LookPlan:
    """Fix all looks: about 100 pairs, then a quarter more each time, whole rounds of all tasks.

    Args:
        tasks: Played in turn.
        max_pairs: So many at most.
        margin: In percentage points.
        baseline: Name of the arm that the others are compared with.
        order_seed: Of the order in which pairs are played.

    Raises:
        ValueError: if there are not two pairs of each task.
    """
    last = max_pairs // tasks * tasks
    if last < 2 * tasks:
        raise ValueError(f"at most {max_pairs} pairs of {tasks} tasks: expected at least {2 * tasks}")
    pairs: list[int] = []
    wanted = max(FIRST_LOOK, 2 * tasks)
    # One that is nearly the last decides hardly more than that.
    while (rounded := -(-wanted // tasks) * tasks) <= 0.9 * last:
        pairs.append(rounded)
        wanted = math.ceil(_GROWTH * rounded)
    pairs.append(last)
    shares = [count / last for count in pairs]
    critical = critical_values(shares, [spent(share, ALPHA) for share in shares])
    return LookPlan(
        rule=RULE,
        alpha=ALPHA,
        margin=margin,
        baseline=baseline,
        order_seed=order_seed,
        pairs=pairs,
        critical=[round(z, 4) for z in critical],
    )


def judge_look(arm: str, number: int, plan: LookPlan, tables: NDArray[np.int64], lost: int = 0) -> Look:
    """What an arm's pairs at a look say.

    Args:
        arm: Its name.
        number: Of the look, from 1 on.
        plan: All looks.
        tables: (T, 4) int64, as `Pairs.by_task` counts them.
        lost: Pairs of the plan that are missing in it.
    """
    pairs, wins, losses = int(tables.sum()), int(tables[:, 1].sum()), int(tables[:, 2].sum())
    difference = (wins - losses) / pairs
    bounds = repeated_interval(tables, plan.critical[number - 1])
    share = plan.margin / 100
    decision: Decision = "goes on"
    if bounds.low > -share:
        decision = "non-inferior"
    elif bounds.high < -share:
        decision = "inferior"
    elif number == len(plan.pairs):
        decision = "undecided"
    elif (
        2 * pairs >= plan.max_pairs
        and chance_of_decision(tables, plan.pairs[-1], plan.critical[-1], share) < FUTILITY
    ):
        decision = "hopeless"
    return Look(
        arm=arm,
        number=number,
        pairs=pairs,
        lost=lost,
        wins=wins,
        losses=losses,
        difference=difference,
        low=max(-1.0, bounds.low),
        high=min(1.0, bounds.high),
        decision=decision,
    )


def repeated_interval(tables: NDArray[np.int64], critical: float) -> Interval:
    """Both one-sided bounds of the difference at a critical value of z: Tango's, or Student's over tasks."""
    pairs, wins, losses = int(tables.sum()), int(tables[:, 1].sum()), int(tables[:, 2].sum())
    score = tango(wins, losses, pairs, float(2 * ndtr(critical) - 1))
    tasks = len(tables)
    if tasks == 1:
        return score
    difference = (wins - losses) / pairs
    student = float(stdtrit(tasks - 1, ndtr(critical)))
    half = student * math.sqrt(between_tasks(tables))
    return score.hull(Interval(difference - half, difference + half))


def between_tasks(tables: NDArray[np.int64]) -> float:
    """Variance of the difference as the means of tasks tell it, the cluster-robust one; (T, 4), T > 1."""
    sizes = tables.sum(axis=1)
    means = (tables[:, 1] - tables[:, 2]) / sizes
    difference = float(sizes @ means) / sizes.sum()
    tasks = len(tables)
    return float(((sizes * (means - difference)) ** 2).sum()) / sizes.sum() ** 2 * tasks / (tasks - 1)


def chance_of_decision(tables: NDArray[np.int64], last: int, critical: float, share: float) -> float:
    """How likely the last look decides, by the difference and the spread that are seen now.

    The predictive distribution without any prior opinion (Spiegelhalter, Freedman and Blackburn, Controlled
    Clinical Trials 7 (1986) 8). The spread within tasks shrinks with the pairs, that between them stays.

    Args:
        tables: (T, 4) int64.
        last: Pairs at the last look.
        critical: The value of z there.
        share: The margin, in [0, 1].
    """
    pairs = int(tables.sum())
    difference = float(tables[:, 1].sum() - tables[:, 2].sum()) / pairs
    # One more discordant pair: none in a hundred is not none.
    within = (float(tables[:, 1].sum() + tables[:, 2].sum() + 1) / pairs - difference**2) / pairs
    tasks = len(tables)
    stays = max(0.0, between_tasks(tables) - within) if tasks > 1 else 0.0
    moves = within * (1 - pairs / last)
    half = critical * math.sqrt(within * pairs / last)
    if stays:
        half = max(half, float(stdtrit(tasks - 1, ndtr(critical))) * math.sqrt(within * pairs / last + stays))
    if moves <= 0:
        return 0.0
    away = difference + share
    return float(ndtr((away - half) / math.sqrt(moves)) + ndtr((-away - half) / math.sqrt(moves)))
