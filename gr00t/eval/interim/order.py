"""In which order a run that ends with its verdicts plays: at random over tasks and states, tasks in turn.

A look at the first pairs is then a look at a sample of all of them. Tasks are balanced, so that a look weighs
each alike; every state of a task is met once under the first seed, then once more under the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class PlannedPair(NamedTuple):
    """An episode that two arms are to play."""

    seed: int
    task: int
    init_state: int


def pair_order(
    tasks: Sequence[int], init_states: Sequence[int], seeds: Sequence[int], order_seed: int
) -> list[PlannedPair]:
    """Every episode once; the same arguments give the same order."""
    rng = np.random.default_rng(order_seed)
    found = []
    for seed in seeds:
        states = {task: rng.permutation(init_states).tolist() for task in tasks}
        for turn in range(len(init_states)):
            found += [PlannedPair(seed, task, states[task][turn]) for task in rng.permutation(tasks).tolist()]
    return found
