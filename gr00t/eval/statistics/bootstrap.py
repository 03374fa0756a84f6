"""Bootstrap of a paired difference over tasks: how far would it move with other tasks and other episodes?

Episodes of one task resemble each other, so a difference over ten tasks is less certain than one over as
many unrelated pairs: the resampling has to know of tasks. Both stages are resampled: tasks, and within each
drawn task its pairs. Either alone is wrong here. Tasks alone give an interval of no width for a single task
and cover too rarely with ten. Both, done plainly, count the noise within tasks twice and ask for up to
twice the pairs.

So both stages are rescaled until the variance is right (the shrinkage of Davison and Hinkley, Bootstrap
Methods and their Application, 1997, section 3.8): the deviations within tasks by sqrt(m / (m - 1)), those
between tasks so that the whole is the variance between task means (the cluster-robust one), or that of
independent pairs where this is larger, since no interval should gain from tasks that agree by chance. Few
tasks are few degrees of freedom: the deviations between tasks carry the ratio of Student's quantile to the
normal one.

Coverage of nominal 95 % intervals, 1,500 simulated runs each, discordance 15 %; `pytest --slow
tests/eval/statistics/test_bootstrap.py` simulates them anew:

    tasks x pairs, sd of the difference over tasks     10 x 10, 0   10 x 50, 0   10 x 50, 10 %   4 x 50, 0
    tasks only                                             91.7 %       90.1 %          89.8 %      82.7 %
    tasks and pairs, plainly                               98.3 %       99.1 %          93.7 %      97.9 %
    here                                                   95.7 %       96.3 %          92.9 %      96.1 %

It has no width where no pair is discordant; the verdict therefore takes the wider of this and Tango's
interval.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from gr00t.eval.statistics.intervals import Interval

RESAMPLES = 10_000
# What a pair adds to the successes of arm and baseline: solved by both, arm only, baseline only, neither.
_OUTCOMES = np.array([[1, 1], [1, 0], [0, 1], [0, 0]], dtype=np.float64)


@dataclass(frozen=True)
class Bootstrap:
    """Resampled success rates of two arms over the same pairs.

    Attributes:
        arm: (R,) float64, within [0, 1].
        baseline: (R,) float64, likewise; the difference of the two is what is calibrated.
        differences: (R,) float64, within [-1, 1].
    """

    arm: NDArray[np.float64]
    baseline: NDArray[np.float64]
    differences: NDArray[np.float64]

    def difference(self, confidence: float = 0.95) -> Interval:
        """Percentile interval of arm - baseline."""
        return _percentiles(self.differences, confidence)

    def ratio(self, confidence: float = 0.95) -> Interval:
        """Percentile interval of arm / baseline; infinite ends where the baseline solves little."""
        equal = np.ones_like(self.arm)
        ratios = np.divide(self.arm, self.baseline, out=equal, where=self.baseline > 0)
        ratios[(self.baseline == 0) & (self.arm > 0)] = np.inf
        return _percentiles(ratios, confidence)


def task_bootstrap(tables: NDArray[np.int64], resamples: int = RESAMPLES, seed: int = 0) -> Bootstrap:
    """Resample tasks and the pairs within them.

    Args:
        tables: (T, 4) int64. Pairs of each of T tasks: solved by both, by the arm only, by the baseline
            only, by neither. Every task has at least one pair.
        resamples: R.
        seed: The same seed gives the same resamples.

    Raises:
        ValueError: for another shape, or a task without pairs.
    """
    sizes = tables.sum(axis=1)
    if tables.ndim != 2 or tables.shape[1] != len(_OUTCOMES) or len(tables) == 0 or sizes.min() < 1:
        raise ValueError(f"expected (T, 4) counts with at least one pair per task, got {tables.tolist()}")
    rates = (tables @ _OUTCOMES) / sizes[:, None]
    overall = (tables @ _OUTCOMES).sum(axis=0) / sizes.sum()
    within, between = _factors(tables)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(tables), size=(resamples, len(tables)))
    counts = rng.multinomial(sizes[drawn], (tables / sizes[:, None])[drawn])
    noise = (counts @ _OUTCOMES) / sizes[drawn][..., None] - rates[drawn]
    means = between * (rates[drawn] - overall) + within[drawn][..., None] * noise
    weights = sizes[drawn] / sizes[drawn].sum(axis=1, keepdims=True)
    resampled = overall + np.einsum("rt,rta->ra", weights, means)
    arm, baseline = np.clip(resampled, 0, 1).T
    return Bootstrap(arm, baseline, np.clip(resampled[:, 0] - resampled[:, 1], -1, 1))


def _factors(tables: NDArray[np.int64]) -> tuple[NDArray[np.float64], float]:
    """Scale of the deviations within each task, (T,), and between tasks; see the head of this file."""
    sizes = tables.sum(axis=1)
    difference = _OUTCOMES[:, 0] - _OUTCOMES[:, 1]
    means = tables @ difference / sizes
    # One pair in a task says nothing about the noise within it; it then shows between tasks.
    within = np.where(sizes > 1, np.sqrt(sizes / np.maximum(1, sizes - 1)), 0.0)
    spread = tables @ difference**2 / sizes - means**2
    noise = float((sizes * within**2 * spread).sum()) / sizes.sum() ** 2
    tasks = len(tables)
    if tasks == 1:
        return within, 0.0
    overall = float(sizes @ means) / sizes.sum()
    resampled = float(((sizes * (means - overall)) ** 2).sum()) / sizes.sum() ** 2
    clustered = resampled * tasks / (tasks - 1)
    if clustered <= noise:
        return within, 0.0
    student = float(stdtrit(tasks - 1, 0.975) / ndtri(0.975))
    return within, student * float(np.sqrt((clustered - noise) / resampled))


def _percentiles(values: NDArray[np.float64], confidence: float) -> Interval:
    # Order statistics, not a mean of two of them: differences come in steps, and a ratio may be infinite.
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail], method="inverted_cdf")
    return Interval(float(low), float(high))
