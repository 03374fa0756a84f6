"""Plays episodes of a policy, lets the expert take over, and writes what it did as a data set.

What was played stands in `policy_episodes.jsonl`, a line for each episode, written when all its takeovers
are: so a run that was killed at any time goes on with the episodes that have no line. They are played anew,
and since everything is seeded the same steps are chosen; takeovers that were recorded before are left out.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gr00t.data.lerobot.writer import Demonstration, LeRobotWriter
from gr00t.eval.rollout.episode import PolicyClient, Simulator
from gr00t.eval.takeovers.choice import takeover_steps
from gr00t.eval.takeovers.policy_episode import PolicyEpisode, play_remembering
from gr00t.files.atomic import replace_file
from gr00t.libero.datagen.demonstrations import Recording
from gr00t.libero.datagen.takeovers import take_over
from gr00t.libero.simulator.simulator import SimulatorError
from gr00t.libero.tasks.suites import Task

logger = logging.getLogger(__name__)

PLAYED = "policy_episodes.jsonl"
_KEY = ("suite", "task_number", "init_state", "placement", "seed")
_ATTEMPTS = 2


@dataclass(frozen=True)
class TakeoverPlan:
    """How every episode is played.

    Attributes:
        placement: one of `gr00t.libero.expert.placement.PLACEMENTS`.
        max_steps: control steps after which the policy, and after a takeover the expert, has failed.
        replan_steps: actions executed per query of the policy.
        of_solved: takeovers of an episode that the policy solves.
        of_failed: takeovers of one that it does not.
        size: side of the recorded images.
    """

    placement: str
    max_steps: int
    replan_steps: int
    of_solved: int
    of_failed: int
    size: int


@dataclass(frozen=True)
class TakeoverJob:
    """Episodes of one task under one seed."""

    task: Task
    seed: int
    init_states: Sequence[int]


class TakeoverCollector:
    """Plays jobs and writes what they show; several threads may call `play`, each with its own simulator.

    Args:
        policy: shared by all threads.
        plan: of every episode.
        writer: of the data set, whose folder holds `PLAYED`, too.
        is_stopping: asked between episodes.
    """

    def __init__(
        self,
        policy: PolicyClient,
        plan: TakeoverPlan,
        writer: LeRobotWriter,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._policy = policy
        self._plan = plan
        self._writer = writer
        self._is_stopping = is_stopping
        self._writing = threading.Lock()
        self.played = read_played(writer.folder)
        self._recorded = {
            (*(line[key] for key in _KEY), line["taken_over_after"]) for line in writer.episodes
        }

    def left(self, jobs: Sequence[TakeoverJob]) -> list[TakeoverJob]:
        """What of `jobs` has not been played."""
        done = {tuple(line[key] for key in _KEY) for line in self.played}
        return [
            TakeoverJob(job.task, job.seed, states)
            for job in jobs
            if (states := [n for n in job.init_states if tuple(self._key(job, n).values()) not in done])
        ]

    def play(self, simulator: Simulator, job: TakeoverJob, on_episode: Callable[[], Any]) -> None:
        """Play what a job holds; `on_episode` is called after each episode.

        A simulator that fails twice in an episode loses it: its line says so.
        """
        is_open = False
        for init_state in job.init_states:
            if self._is_stopping():
                return
            failure = ""
            for _ in range(_ATTEMPTS):
                try:
                    if not is_open:
                        simulator.open_task(job.task, job.seed, self._plan.placement)
                        is_open = True
                    self._play(simulator, job, init_state)
                    break
                except SimulatorError as error:
                    if self._is_stopping():
                        return
                    simulator.close()
                    is_open, failure = False, str(error)
                    logger.warning(
                        "task %d, initial state %d: simulator error: %s", job.task.index, init_state, error
                    )
            else:
                self._note({**self._key(job, init_state), "simulator_error": failure})
            on_episode()

    def _play(self, simulator: Simulator, job: TakeoverJob, init_state: int) -> None:
        """Play an episode with its takeovers and write what it shows."""
        plan, key = self._plan, self._key(job, init_state)
        episode = play_remembering(
            *(simulator, self._policy, job.task, init_state),
            seed=job.seed,
            max_steps=plan.max_steps,
            replan_steps=plan.replan_steps,
        )
        count = plan.of_solved if episode.solved else plan.of_failed
        random = np.random.default_rng([job.seed, job.task.index, init_state])
        taken = []
        # After the last step of a solved episode nothing is left to do.
        for step in takeover_steps(episode.gripper[: -1 if episode.solved else None], count, random):
            line: dict[str, Any] = {**key, "taken_over_after": step}
            shown = None
            if tuple(line.values()) not in self._recorded:
                shown = simulator.run(take_over, episode.moments[step], plan.max_steps, plan.size)
                if shown is not None:
                    self._record(job.task, line, episode, shown)
            recorded = tuple(line.values()) in self._recorded
            taken.append({"after": step, "solved": recorded})
        self._note(
            {
                **key,
                "solved": episode.solved,
                "steps": len(episode.moments),
                "lifted_wrong": episode.lifted_wrong,
                "takeovers": taken,
            }
        )

    def _record(self, task: Task, line: dict[str, Any], episode: PolicyEpisode, shown: Recording) -> None:
        extra = {**line, "policy_solved": episode.solved, "policy_steps": len(episode.moments)}
        frames = {"image": shown.image, "wrist_image": shown.wrist_image}
        with self._writing:
            self._writer.add(Demonstration(task.language, shown.states, shown.actions, frames, extra))
            self._recorded.add(tuple(line.values()))

    def _note(self, line: dict[str, Any]) -> None:
        with self._writing, (self._writer.folder / PLAYED).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
            self.played.append(line)

    def _key(self, job: TakeoverJob, init_state: int) -> dict[str, Any]:
        values = (job.task.suite, job.task.index, init_state, self._plan.placement, job.seed)
        return dict(zip(_KEY, values, strict=True))


def read_played(folder: Path) -> list[dict[str, Any]]:
    """The lines of `PLAYED`, one for each episode; a last line that is not whole is removed from the file."""
    path = folder / PLAYED
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8")
    whole = lines[: lines.rfind("\n") + 1]
    if whole != lines:
        replace_file(path, whole)
    return [json.loads(line) for line in whole.splitlines()]
