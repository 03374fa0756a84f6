"""What an evaluation plays, and under which conditions; the same for all of its arms."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from gr00t.libero.expert.placement import PLACEMENTS
from gr00t.libero.tasks.suites import LiberoError, Suite, Task, load_init_states
from gr00t.spelling import did_you_mean

VideoChoice = Literal["none", "failures", "all"]


class EpisodeJob(NamedTuple):
    """One episode to play."""

    task: Task
    init_state: int

    def __str__(self) -> str:
        """As messages name it."""
        return f"task {self.task.index}, initial state {self.init_state}"


@dataclass(frozen=True)
class EvalPlan:
    """What to play and how, under one seed; a run under several seeds has as many plans.

    Attributes:
        suite: The suite.
        tasks: Those to play.
        trials: Recorded initial states per task.
        init_offset: The first of them.
        placement: Where the objects stand at first, one of `gr00t.libero.expert.placement.PLACEMENTS`.
        seed: Seeds the placement of fixtures, wide placements and the policy's noise.
        replan_steps: Actions executed per query.
        max_steps: Steps after which an episode has failed; the suite's own limit by default.
        video: Which episodes to keep a video of.
        record_every: Steps per video frame; drawing is dearer than physics.
    """

    suite: Suite
    tasks: tuple[Task, ...]
    trials: int
    init_offset: int = 0
    placement: str = "recorded"
    seed: int = 0
    replan_steps: int = 8
    max_steps: int | None = None
    video: VideoChoice = "none"
    record_every: int = 2

    def __post_init__(self) -> None:
        """Refuse counts that make no sense."""
        for name in ("trials", "replan_steps", "record_every"):
            if getattr(self, name) < 1:
                raise LiberoError(
                    f"{name.replace('_', '-')}: expected a positive number, got {getattr(self, name)}"
                )
        if self.max_steps is not None and self.max_steps < 1:
            raise LiberoError(f"max-steps: expected a positive number, got {self.max_steps}")
        if self.init_offset < 0:
            raise LiberoError(f"init-offset: expected 0 or more, got {self.init_offset}")
        if self.placement not in PLACEMENTS:
            raise LiberoError(f"placement {self.placement!r}: {did_you_mean(self.placement, PLACEMENTS)}")

    @property
    def step_limit(self) -> int:
        """Steps after which an episode has failed."""
        return self.max_steps if self.max_steps is not None else self.suite.max_steps

    @property
    def init_states(self) -> range:
        """The initial states of every task."""
        return range(self.init_offset, self.init_offset + self.trials)

    @property
    def frame_interval(self) -> int:
        """Steps per video frame; 0 where no video is kept."""
        return 0 if self.video == "none" else self.record_every

    def jobs(self) -> list[EpisodeJob]:
        """Every episode, task by task: opening a task takes seconds."""
        return [EpisodeJob(task, state) for task in self.tasks for state in self.init_states]

    def conditions(self) -> dict[str, Any]:
        """What decides how an episode goes, as plain data; not which episodes there are."""
        return {
            "suite": self.suite.name,
            "placement": self.placement,
            "replan_steps": self.replan_steps,
            "max_steps": self.step_limit,
        }

    def coverage(self) -> dict[str, Any]:
        """Which episodes there are, as plain data."""
        return {
            "tasks": [task.index for task in self.tasks],
            "init_states": list(self.init_states),
            "seeds": [self.seed],
        }


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read `0,1,2` as seeds, in the order given, each once.

    Raises:
        LiberoError: for anything else.
    """
    if not re.fullmatch(r"\s*\d{1,9}\s*(,\s*\d{1,9}\s*)*", text):
        raise LiberoError(f"seeds {text!r}: expected numbers, such as 0,1,2")
    return tuple(dict.fromkeys(map(int, text.split(","))))


def check_init_states(plan: EvalPlan, kept_free_for: Iterable[str] = ()) -> None:
    """Refuse initial states that do not exist, or that something else needs, before anything is started.

    Args:
        plan: What is asked for.
        kept_free_for: Arms that need a task's last initial state for themselves: to calibrate on it, or to
            record the episode that they replay.

    Raises:
        LiberoError: naming the task and what would do.
    """
    reserved = sorted(kept_free_for)
    for task in plan.tasks:
        available = len(load_init_states(task))
        wanted = plan.init_states
        if wanted.stop > available:
            raise LiberoError(
                f"trials: initial states {wanted.start} to {wanted.stop - 1} asked for, but "
                f"{plan.suite.name} task {task.index} has {available} initial states"
            )
        if reserved and wanted.stop == available:
            raise LiberoError(
                f"trials: initial state {available - 1} of {plan.suite.name} task {task.index} cannot be "
                f"evaluated, {', '.join(reserved)} needs it; evaluate at most {available - 1} states from 0"
            )


def check_not_calibrated_on(plan: EvalPlan, used: dict[int, list[int]], by: str) -> None:
    """Refuse to evaluate where a policy was calibrated.

    Args:
        plan: What is to be evaluated.
        used: Initial states that the calibration played, by task of the same suite.
        by: Whose calibration it is, for the message.

    Raises:
        LiberoError: naming a task and a state.
    """
    for task in plan.tasks:
        common = sorted(set(used.get(task.index, ())) & set(plan.init_states))
        if common:
            raise LiberoError(
                f"{by} was calibrated on initial state {common[0]} of {plan.suite.name} task {task.index}, "
                f"which this run would evaluate; choose others with --trials and --init-offset"
            )
