"""Observations that a policy meets when it acts, on initial states that evaluations do not use.

Evaluations play the initial states 0, 1, ... of every task; here they are taken from the end, and never from
the first half.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gr00t.eval.rollout.episode import PolicyClient, Simulator, play_episode
from gr00t.libero.simulator.simulator import SimulatorError
from gr00t.libero.tasks.suites import LiberoError, Task

logger = logging.getLogger(__name__)


@dataclass
class Collection:
    """What was collected.

    Attributes:
        observations: one of each task in turn, so that the first few cover many tasks.
        init_states: those that were played, by task.
    """

    observations: list[dict[str, Any]] = field(default_factory=list)
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
        on_episode: told after each episode how many observations were taken from it.

    Raises:
        LiberoError: the second half of a task's initial states does not yield that many.
        SimulatorError: the simulator failed twice in an episode.
    """
    collection = Collection()
    by_task = []
    for place, task in enumerate(tasks):
        wanted = requests // len(tasks) + (place < requests % len(tasks))
        taken: list[dict[str, Any]] = []
        available = simulator.open_task(task, seed) if wanted else 0
        for init_state in reversed(range((available + 1) // 2, available)):
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
            )
            chosen = np.linspace(0, len(met) - 1, min(len(met), wanted - len(taken))).round().astype(int)
            taken += [met[index] for index in chosen]
            collection.init_states.setdefault(task.index, []).append(init_state)
            on_episode(len(chosen))
        if len(taken) < wanted:
            raise LiberoError(
                f"{task.suite} task {task.index}: the second half of its {available} initial states yields "
                f"{len(taken)} observations, {wanted} are wanted; ask for fewer requests"
            )
        by_task.append(taken)
    collection.observations = _in_turn(by_task)
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
) -> list[dict[str, Any]]:
    """Play an episode, once more if the simulator fails; return all observations of it."""
    for attempt in range(2):
        remembering = _Remembering(policy)
        try:
            if attempt:
                simulator.open_task(task, seed)
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


def _in_turn(by_task: Iterable[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    rounds = itertools.zip_longest(*by_task)
    return [observation for turn in rounds for observation in turn if observation is not None]
