"""Observations that a policy meets when it acts, by default on initial states that evaluations do not use.

Evaluations play the initial states 0, 1, ... of every task; here they are taken from the end, and never from
the first half. What judges a calibration takes them as an evaluation does, from the first half alone.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from gr00t.eval.rollout.episode import PolicyClient, Simulator, play_episode
from gr00t.libero.simulator.simulator import SimulatorError
from gr00t.libero.tasks.suites import LiberoError, Task

T = TypeVar("T")

logger = logging.getLogger(__name__)

# Of each task: observations of an episode resemble each other.
_JUDGED_EPISODES = 2


@dataclass
class Collection:
    """What was collected.

    Attributes:
        observations: one of each task in turn, so that the first few cover many tasks.
        episodes: number of the episode that each is from, in the order of playing.
        init_states: those that were played, by task.
    """

    observations: list[dict[str, Any]] = field(default_factory=list)
    episodes: list[int] = field(default_factory=list)
    init_states: dict[int, list[int]] = field(default_factory=dict)


def collect_observations(
    simulator: Simulator,
    policy: PolicyClient,
    tasks: Sequence[Task],
    requests: int,
    *,
    seed: int,
    max_steps: int,
    replan_steps: int,
    placement: str = "recorded",
    to_judge: bool = False,
    on_episode: Callable[[int], None] = lambda count: None,
) -> Collection:
    """Let `policy` play until it has met enough, as evenly over `tasks` and over each episode as may be.

    Args:
        simulator: plays one task after the other.
        policy: acts; what it is asked is what is collected.
        tasks: at least one.
        requests: observations wanted.
        seed: seeds the placement of fixtures and the policy's noise.
        max_steps: control steps after which an episode ends.
        replan_steps: actions executed per query.
        placement: where the objects stand at first, `recorded` or `wide`.
        to_judge: take the first half of the initial states, from the first on, at least two for each task.
        on_episode: told after each episode how many observations were taken from it.

    Raises:
        LiberoError: that half of a task's initial states does not yield that many.
        SimulatorError: the simulator failed twice in an episode.
    """
    collection = Collection()
    by_task: list[list[tuple[int, dict[str, Any]]]] = []
    numbers = itertools.count()
    for place, task in enumerate(tasks):
        wanted = requests // len(tasks) + (place < requests % len(tasks))
        of_each = -(-wanted // _JUDGED_EPISODES) if to_judge else wanted
        taken: list[tuple[int, dict[str, Any]]] = []
        available = simulator.open_task(task, seed, placement) if wanted else 0
        half = (available + 1) // 2
        for init_state in range(half) if to_judge else reversed(range(half, available)):
            if len(taken) == wanted:
                break
            met = _meet(
                simulator,
                policy,
                task,
                init_state,
                seed=seed,
                max_steps=max_steps,
                replan_steps=replan_steps,
                placement=placement,
            )
            count = min(len(met), of_each, wanted - len(taken))
            chosen = np.linspace(0, len(met) - 1, count).round().astype(int)
            number = next(numbers)
            taken += [(number, met[index]) for index in chosen]
            collection.init_states.setdefault(task.index, []).append(init_state)
            on_episode(len(chosen))
        if len(taken) < wanted:
            raise LiberoError(
                f"{task.suite} task {task.index}: the {'first' if to_judge else 'second'} half of its "
                f"{available} initial states yields {len(taken)} observations, {wanted} are wanted; ask for "
                "fewer requests"
            )
        by_task.append(taken)
    for number, observation in _in_turn(by_task):
        collection.episodes.append(number)
        collection.observations.append(observation)
    return collection


class _Remembering:
    """A policy that remembers what it is asked."""

    def __init__(self, policy: PolicyClient) -> None:
        self._policy = policy
        self.met: list[dict[str, Any]] = []

    def get_action(self, observations: dict[str, Any], *, seed: int | None = None) -> dict[str, Any]:
        self.met.append(observations)
        return self._policy.get_action(observations, seed=seed)


def _meet(
    simulator: Simulator,
    policy: PolicyClient,
    task: Task,
    init_state: int,
    *,
    seed: int,
    max_steps: int,
    replan_steps: int,
    placement: str,
) -> list[dict[str, Any]]:
    """Play an episode, once more if the simulator fails; return all observations of it."""
    for attempt in range(2):
        remembering = _Remembering(policy)
        try:
            if attempt:
                simulator.open_task(task, seed, placement)
            play_episode(
                simulator,
                remembering,
                task,
                init_state,
                seed=seed,
                max_steps=max_steps,
                replan_steps=replan_steps,
            )
        except SimulatorError as error:
            simulator.close()
            if attempt:
                raise
            logger.warning(
                "task %d, initial state %d: simulator error, retrying: %s", task.index, init_state, error
            )
        else:
            break
    return remembering.met


def _in_turn(by_task: Iterable[list[T]]) -> list[T]:
    rounds = itertools.zip_longest(*by_task)
    return [observation for turn in rounds for observation in turn if observation is not None]
