"""Play a suite: tasks and initial states in order, a simulator error retried once and then counted apart."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tqdm import tqdm

from gr00t.eval.libero.episode import Episode, Policy, Simulator, play_episode
from gr00t.eval.libero.records import EpisodeRecord, RunFolder, write_video
from gr00t.eval.libero.simulator import CONTROL_HZ, SimulatorError
from gr00t.eval.libero.suites import LiberoError, Suite, Task

logger = logging.getLogger(__name__)

VideoChoice = Literal["all", "failures", "none"]


@dataclass(frozen=True)
class EvalPlan:
    """What to play and how; it is the same for every episode of a run.

    Attributes:
        suite: The suite.
        tasks: Those to play.
        trials: Initial states per task, the first ones.
        seed: Seeds the placement of fixtures and the policy's noise.
        replan_steps: Actions executed per query.
        max_steps: Steps after which an episode has failed; the suite's own limit by default.
        video: Which episodes to keep a video of.
        record_every: Steps per video frame; drawing is dearer than physics.
        labels: Fields of `EpisodeRecord` that describe the whole run (assets, server, versions...).
    """

    suite: Suite
    tasks: Sequence[Task]
    trials: int
    seed: int = 0
    replan_steps: int = 8
    max_steps: int | None = None
    video: VideoChoice = "all"
    record_every: int = 2
    labels: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse counts that make no sense."""
        for name in ("trials", "replan_steps", "record_every"):
            if getattr(self, name) < 1:
                raise LiberoError(
                    f"{name.replace('_', '-')}: expected a positive number, got {getattr(self, name)}"
                )
        if self.max_steps is not None and self.max_steps < 1:
            raise LiberoError(f"max-steps: expected a positive number, got {self.max_steps}")

    @property
    def step_limit(self) -> int:
        """Steps after which an episode has failed."""
        return self.max_steps if self.max_steps is not None else self.suite.max_steps


def evaluate(
    plan: EvalPlan, simulator: Simulator, policy: Policy, folder: RunFolder, *, progress_bar: bool = True
) -> Iterator[EpisodeRecord]:
    """Play every episode of `plan`; each is written to `folder` and yielded as it ends.

    Raises:
        LiberoError: if a task has fewer initial states than trials were asked for.
        PolicyReplyError: if the policy's answers cannot be executed. Errors of the policy's own pass through.
    """
    wins = played = 0
    with tqdm(total=len(plan.tasks) * plan.trials, unit="episode", disable=not progress_bar) as bar:
        for task in plan.tasks:
            is_open = False
            for init_state in range(plan.trials):
                started = time.perf_counter()
                episode: Episode | None = None
                error: str | None = None
                retried = False
                for attempt in range(2):
                    try:
                        if not is_open:
                            _open(simulator, task, plan)
                            is_open = True
                        episode = _play(simulator, policy, task, init_state, plan)
                        break
                    except SimulatorError as failure:
                        # Whatever is left of the simulator is not to be trusted: the next attempt starts
                        # anew.
                        error = str(failure)
                        is_open = False
                        simulator.close()
                        retried = attempt == 0
                        logger.warning(
                            "task %d, initial state %d: simulator error%s: %s",
                            task.index,
                            init_state,
                            ", retrying" if attempt == 0 else ", counted apart",
                            error,
                        )
                wall = time.perf_counter() - started
                record = _record(plan, task, init_state, episode, error, retried, wall, folder)
                folder.add(record)
                wins += record.success is True
                played += record.success is not None
                bar.set_postfix_str(f"{wins}/{played} succeeded")
                bar.update()
                yield record


def _open(simulator: Simulator, task: Task, plan: EvalPlan) -> None:
    available = simulator.open_task(task, plan.seed)
    if plan.trials > available:
        raise LiberoError(
            f"trials: {plan.trials} asked for, but {plan.suite.name} task {task.index} has {available} "
            f"initial states"
        )


def _play(simulator: Simulator, policy: Policy, task: Task, init_state: int, plan: EvalPlan) -> Episode:
    return play_episode(
        simulator,
        policy,
        task,
        init_state,
        seed=plan.seed,
        max_steps=plan.step_limit,
        replan_steps=plan.replan_steps,
        record_every=0 if plan.video == "none" else plan.record_every,
    )


def _record(
    plan: EvalPlan,
    task: Task,
    init_state: int,
    episode: Episode | None,
    error: str | None,
    retried: bool,
    wall: float,
    folder: RunFolder,
) -> EpisodeRecord:
    played = episode or Episode()
    video = None
    if played.frames and (plan.video == "all" or (plan.video == "failures" and not played.success)):
        path = folder.video_path(task.index, init_state, "success" if played.success else "failure")
        write_video(path, played.frames, max(1, CONTROL_HZ // plan.record_every))
        video = str(path.relative_to(folder.path))
    return EpisodeRecord(
        suite=plan.suite.name,
        task=task.index,
        task_name=task.name,
        language=task.language,
        init_state=init_state,
        seed=plan.seed,
        success=None if episode is None else episode.success,
        steps=played.steps,
        queries=played.queries,
        simulator_error=error,
        retried=retried,
        jerk=round(played.jerk, 6),
        wall_seconds=round(wall, 3),
        query_ms=[round(1000 * seconds, 1) for seconds in played.query_seconds],
        simulator_ms_per_step=round(1000 * played.step_seconds / max(1, played.simulated_steps), 3),
        render_ms_per_image=round(1000 * played.render_seconds / max(1, played.renders), 3),
        video=video,
        thumbnail=None,
        actions_hash=played.actions_hash,
        arm="policy",
        rendering="full",
        placement="recorded",
        denoising_steps=None,
        replan_steps=plan.replan_steps,
        max_steps=plan.step_limit,
        **plan.labels,
    )
