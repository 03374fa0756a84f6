"""Simulate runs that play until they are decided: how often the rule errs, and how many pairs it takes.

    python scripts/bench/sequential.py            # 20,000 runs of each kind; about three minutes
    python scripts/bench/sequential.py --runs 2000

Tasks differ: the true difference of each is drawn around the arm's own, so that pairs of one task resemble
each other; their share of the variance of a pair is the correlation within tasks. An arm that truly loses the
margin must not be called non-inferior in more than 5 % of all runs, nor inferior. The rule is that of
`gr00t.eval.statistics.sequential`, for many runs at once; a test lays the two side by side.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from gr00t.eval.statistics.sequential import FUTILITY, plan_looks

MARGIN = 0.03
MAX_PAIRS = 1_500
SPREADS = (0.0, 0.02, 0.04, 0.08)
DISCORDANCES = (0.05, 0.1, 0.2)


@dataclass(frozen=True)
class Truth:
    """What is simulated.

    Attributes:
        tasks: Of the suite.
        discordance: Share of pairs that one of the two arms solves.
        difference: Of the success rates, arm - baseline, in the mean over all tasks that there could be.
        spread: Standard deviation of the difference from task to task.
    """

    tasks: int
    discordance: float
    difference: float
    spread: float

    @property
    def correlation(self) -> float:
        """Of two pairs of one task."""
        return self.spread**2 / (self.discordance - self.difference**2)


@dataclass(frozen=True)
class Found:
    """How simulated runs ended, as shares of them, and their mean number of pairs."""

    non_inferior: float
    inferior: float
    hopeless: float
    undecided: float
    pairs: float


def simulate(truth: Truth, runs: int, seed: int = 0, futility: float = FUTILITY) -> Found:
    """Play many runs at once."""
    rng = np.random.default_rng(seed)
    plan = plan_looks(truth.tasks, MAX_PAIRS, 100 * MARGIN, "base", 0)
    differences = truth.difference + truth.spread * rng.standard_normal((runs, truth.tasks))
    differences = np.clip(differences, -1, 1)
    discordance = np.maximum(truth.discordance, np.abs(differences))
    win, loss = (discordance + differences) / 2, (discordance - differences) / 2
    wins, losses = (np.zeros((runs, truth.tasks), dtype=np.int64) for _ in range(2))
    ended = np.zeros(runs, dtype=np.int64)
    played = np.zeros(runs, dtype=np.int64)
    before = 0
    for number, count in enumerate(plan.pairs):
        each = count // truth.tasks
        more = each - before
        before = each
        won = rng.binomial(more, win)
        wins += won
        losses += rng.binomial(more - won, np.clip(loss / np.maximum(1 - win, 1e-12), 0, 1))
        last = number == len(plan.pairs) - 1
        now = decisions(
            wins, losses, each, plan.critical[number], None if last else plan.critical[-1], futility
        )
        fresh = ended == 0
        ended[fresh] = now[fresh]
        played[fresh] = count
    shares = [float((ended == code).mean()) for code in (1, -1, 2, 0)]
    return Found(*shares, pairs=float(played.mean()))


def decisions(
    wins: NDArray[np.int64],
    losses: NDArray[np.int64],
    each: int,
    critical: float,
    last_critical: float | None,
    futility: float = FUTILITY,
) -> NDArray[np.int64]:
    """1 non-inferior, -1 inferior, 2 hopeless, 0 none of these, for every run.

    Args:
        wins: (R, T) pairs of each task that only the arm solves.
        losses: (R, T) those that only the baseline solves.
        each: Pairs of each task.
        critical: The value of z.
        last_critical: That of the last look; None where this is the last.
        futility: Below this chance of a decision a run ends.
    """
    tasks = wins.shape[1]
    pairs = tasks * each
    w, lost = wins.sum(axis=1), losses.sum(axis=1)
    difference = (w - lost) / pairs
    score = (w - lost + pairs * MARGIN) / np.sqrt(pairs * _variance_at_the_margin(w, lost, pairs))
    means = (wins - losses) / each
    between = ((means - difference[:, None]) ** 2).sum(axis=1) / tasks / (tasks - 1)
    half = stdtrit(tasks - 1, ndtr(critical)) * np.sqrt(between)
    above, below = difference - half > -MARGIN, difference + half < -MARGIN
    found = np.where(above & (score > critical), 1, np.where(below & (score < -critical), -1, 0))
    if last_critical is None or 2 * pairs < MAX_PAIRS:
        return found
    within = ((w + lost + 1) / pairs - difference**2) / pairs
    stays = np.maximum(0.0, between - within)
    shrunk = within * pairs / (MAX_PAIRS // tasks * tasks)
    half = last_critical * np.sqrt(shrunk)
    student = stdtrit(tasks - 1, ndtr(last_critical)) * np.sqrt(shrunk + stays)
    half = np.where(stays > 0, np.maximum(half, student), half)
    moves, away = np.sqrt(within - shrunk), difference + MARGIN
    chance = ndtr((away - half) / moves) + ndtr((-away - half) / moves)
    return np.where((found == 0) & (chance < futility), 2, found)


def _variance_at_the_margin(
    wins: NDArray[np.int64], losses: NDArray[np.int64], pairs: int
) -> NDArray[np.float64]:
    """Of one pair, where the difference is minus the margin; see `intervals.tango`."""
    a = 2 * pairs
    b = -wins - losses - (2 * pairs - wins + losses) * MARGIN
    c = losses * MARGIN * (1 + MARGIN)
    rate = (np.sqrt(np.maximum(0.0, b * b - 4 * a * c)) - b) / (2 * a)
    variance: NDArray[np.float64] = 2 * rate - MARGIN * (1 + MARGIN)
    return variance


def main() -> None:
    """Print both tables, and one line of JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=20_000)
    runs = parser.parse_args().runs
    found = []
    print("A true loss of 3 points, the margin: each error is to be at most 5 %. No run is given up.")
    print("tasks  discordance  correlation  non-inferior, %  inferior, %")
    for tasks in (5, 10):
        for discordance in DISCORDANCES:
            for spread in SPREADS:
                truth = Truth(tasks, discordance, -MARGIN, spread)
                ended = simulate(truth, runs, futility=0.0)
                found.append({**asdict(truth), **asdict(ended)})
                print(
                    f"{tasks:5d}  {discordance:11.2f}  {truth.correlation:11.3f}  "
                    f"{100 * ended.non_inferior:15.1f}  {100 * ended.inferior:11.1f}"
                )
    print("Runs by their truth, hopeless ones given up:")
    print(
        "tasks  discordance  difference  spread  non-inferior, %  inferior, %  hopeless, %  undecided, %"
        "  pairs"
    )
    cases = [(q, 0.0, s) for q in (0.02, *DISCORDANCES) for s in (0.0, 0.02)]
    cases += [(0.1, -MARGIN, 0.0), (0.1, -MARGIN, 0.04), (0.2, -0.1, 0.02), (0.5, -0.4, 0.1)]
    for tasks in (5, 10):
        for discordance, difference, spread in cases:
            truth = Truth(tasks, discordance, difference, spread)
            ended = simulate(truth, runs)
            found.append({**asdict(truth), **asdict(ended)})
            print(
                f"{tasks:5d}  {discordance:11.2f}  {difference:10.2f}  {spread:6.2f}  "
                f"{100 * ended.non_inferior:15.1f}  {100 * ended.inferior:11.1f}  "
                f"{100 * ended.hopeless:11.1f}  {100 * ended.undecided:12.1f}  {ended.pairs:5.0f}"
            )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
