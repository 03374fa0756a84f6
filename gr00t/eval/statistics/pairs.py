"""Pairs: episodes that two arms played under the very same conditions.

A pair is the same suite, task, initial state, seed and placement. An episode that the simulator lost in
either arm makes no pair and is counted; a pair with another seed is one more pair of the same task.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gr00t.eval.rollout.records import EpisodeRecord


class PairKey(NamedTuple):
    """What both episodes of a pair have in common."""

    suite: str
    task: int
    init_state: int
    seed: int
    placement: str


class Pair(NamedTuple):
    """Both episodes of a pair; neither was lost to the simulator."""

    arm: EpisodeRecord
    baseline: EpisodeRecord


@dataclass(frozen=True)
class Pairs:
    """The pairs of two arms.

    Attributes:
        pairs: In the order of their keys.
        lost: Episodes that both arms have, but that the simulator lost in one of them, or in both.
        unpaired: Episodes that only one of the two arms has yet.
    """

    pairs: dict[PairKey, Pair]
    lost: int
    unpaired: int

    def counts(self) -> tuple[int, int, int, int]:
        """Pairs solved by both, by the arm only, by the baseline only, by neither."""
        found = Counter(
            (bool(pair.arm.outcome.success), bool(pair.baseline.outcome.success))
            for pair in self.pairs.values()
        )
        return found[True, True], found[True, False], found[False, True], found[False, False]

    def by_task(self) -> NDArray[np.int64]:
        """The same counts for each (suite, task) that has pairs, (T, 4) int64."""
        tasks: dict[tuple[str, int], dict[PairKey, Pair]] = {}
        for key, pair in self.pairs.items():
            tasks.setdefault((key.suite, key.task), {})[key] = pair
        return np.array([Pairs(group, 0, 0).counts() for group in tasks.values()], dtype=np.int64)

    def disagreements(self) -> list[Pair]:
        """Pairs that one arm solves and the other does not."""
        return [
            pair for pair in self.pairs.values() if pair.arm.outcome.success != pair.baseline.outcome.success
        ]


def pair_up(arm: Iterable[EpisodeRecord], baseline: Iterable[EpisodeRecord]) -> Pairs:
    """Pair the episodes of one arm with those of another."""
    ours, theirs = ({pair_key(record): record for record in records} for records in (arm, baseline))
    common = sorted(ours.keys() & theirs.keys())
    found = {
        key: Pair(ours[key], theirs[key])
        for key in common
        if ours[key].outcome.success is not None and theirs[key].outcome.success is not None
    }
    return Pairs(found, len(common) - len(found), len(ours.keys() ^ theirs.keys()))


def pair_key(record: EpisodeRecord) -> PairKey:
    """The part of a record that both episodes of a pair share."""
    return PairKey(
        record.key.suite, record.key.task, record.key.init_state, record.key.seed, record.conditions.placement
    )
