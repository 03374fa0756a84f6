"""Does an arm move more roughly than the baseline? Three measures of the executed actions, over pairs.

*jerk*, the mean length of the second difference of the motion; *gripper*, how often it is told the opposite,
per 100 steps, since an episode that fails is longer; *seams*, the step of the motion from one chunk to the
next. Each is the ratio of the means of arm and baseline, with a bootstrap that resamples tasks, and within
each drawn task its pairs: episodes of a task resemble each other. That is wider than need be; see
`bootstrap`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gr00t.eval.rollout.records import EpisodeRecord
from gr00t.eval.statistics.intervals import Interval
from gr00t.eval.statistics.pairs import Pairs

ROUGHER = 1.10
RESAMPLES = 2_000
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Smoothness:
    """One measure over the pairs in which both arms have it.

    Attributes:
        measure: `jerk`, `gripper` or `seams`.
        pairs: How many there are.
        ratio: Mean of the arm over that of the baseline.
        interval: 95 % of it.
        is_rougher: By more than 10 %, and by more than chance: the whole interval lies above 1.
    """

    measure: str
    pairs: int
    ratio: float
    interval: Interval
    is_rougher: bool


def _per_hundred_steps(record: EpisodeRecord) -> float | None:
    switches, steps = record.outcome.gripper_switches, record.outcome.steps
    return None if switches is None or steps == 0 else 100 * switches / steps


MEASURES: dict[str, Callable[[EpisodeRecord], float | None]] = {
    "jerk": lambda record: record.outcome.jerk,
    "gripper": _per_hundred_steps,
    "seams": lambda record: record.outcome.seam_jump,
}


def smoothness(pairs: Pairs) -> list[Smoothness]:
    """Every measure that both arms have, and of which the baseline is not 0."""
    found = []
    for name, measure in MEASURES.items():
        by_task: dict[tuple[str, int], list[tuple[float, float]]] = {}
        for key, pair in pairs.pairs.items():
            ours, theirs = measure(pair.arm), measure(pair.baseline)
            if ours is not None and theirs is not None:
                by_task.setdefault((key.suite, key.task), []).append((ours, theirs))
        tasks = [np.array(values) for values in by_task.values()]
        sums = np.sum([values.sum(axis=0) for values in tasks], axis=0) if tasks else np.zeros(2)
        if sums[1] > 0:
            interval = _ratio_interval(tasks)
            ratio = float(sums[0] / sums[1])
            rougher = ratio > ROUGHER and interval.low > 1
            found.append(Smoothness(name, sum(map(len, tasks)), ratio, interval, rougher))
    return found


def _ratio_interval(tasks: list[np.ndarray], seed: int = 0) -> Interval:
    """Percentiles of the ratio of sums; `tasks` holds (m, 2) values of arm and baseline of each task."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(tasks), size=(RESAMPLES, len(tasks)))
    sums = np.zeros((RESAMPLES, 2))
    for task, values in enumerate(tasks):
        runs, _ = np.nonzero(drawn == task)
        chosen = rng.integers(len(values), size=(len(runs), len(values)))
        np.add.at(sums, runs, values[chosen].sum(axis=1))
    ratios = np.divide(sums[:, 0], sums[:, 1], out=np.full(RESAMPLES, np.inf), where=sums[:, 1] > 0)
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(ratios, [tail, 1 - tail], method="inverted_cdf")
    return Interval(float(low), float(high))


def rougher_words(found: list[Smoothness] | tuple[Smoothness, ...]) -> str:
    """A sentence on what is rougher; empty where nothing is."""
    told = [f"{each.measure} {each.ratio:.2f}" for each in found if each.is_rougher]
    return f"It moves more roughly, times the baseline's: {', '.join(told)}." if told else ""
