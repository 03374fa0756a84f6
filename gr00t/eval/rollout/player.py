"""One episode, from a simulator and whoever acts to a record: the same function on one machine and on many.

Two things can break that are not the robot's fault. A simulator that fails is replaced and the episode played
once more; if it fails again, that is what the record says. A policy that goes away is waited for, and the
episode begins anew.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gr00t.eval.rollout.agents import Agent, PolicyLostError
from gr00t.eval.rollout.episode import Episode, Simulator
from gr00t.eval.rollout.media import encode_actions, encode_thumbnail, encode_video
from gr00t.eval.rollout.plan import EpisodeJob, EvalPlan
from gr00t.eval.rollout.record_parts import (
    ArmConditions,
    EpisodeConditions,
    EpisodeKey,
    EpisodeOutcome,
    EpisodeTiming,
)
from gr00t.eval.rollout.records import EpisodeRecord
from gr00t.eval.rollout.run_folder import PlayedEpisode
from gr00t.libero.simulator.simulator import CONTROL_HZ, LiberoSimulator, SimulatorError
from gr00t.libero.tasks.suites import Task

logger = logging.getLogger(__name__)

_POLICY_LOSSES = 3


class StoppedError(RuntimeError):
    """The run ends: whoever plays lets go of its episode."""


class SimulatorSlot:
    """A simulator and the task that it has open, through all arms of a run."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self._open: tuple[Task, int, str] | None = None

    @property
    def task(self) -> int | None:
        """Number of the open task."""
        return None if self._open is None else self._open[0].index

    def open(self, task: Task, seed: int, placement: str) -> None:
        """Open `task`, unless it is open."""
        wanted = (task, seed, placement)
        if self._open != wanted:
            self._open = None
            self.simulator.open_task(*wanted)
            self._open = wanted

    def discard(self) -> None:
        """Let go of a simulator that failed; the next `open` starts a new one."""
        self._open = None
        self.simulator.close()


class Player:
    """Plays the episodes of one arm at one slot.

    Args:
        slot: The simulator that it plays in, its own while it plays.
        agent: What gives the actions; `close` closes it.
        plan: The run's: its seed, the limit of steps, how many actions are executed per query.
        arm: Name of the arm, for the records.
        conditions: Assets, rendering and server of all of the arm's episodes, for the records;
            `versions` get the simulator's added.
        stopped: Asked after every failure, since ending a run makes simulators fail.
    """

    def __init__(
        self,
        slot: SimulatorSlot,
        agent: Agent,
        plan: EvalPlan,
        arm: str,
        conditions: ArmConditions,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self.slot = slot
        self._agent = agent
        self._plan = plan
        self._arm = arm
        self._conditions = conditions
        self._stopped = stopped

    def play(self, job: EpisodeJob) -> PlayedEpisode:
        """Play an episode, come what may of simulators.

        Raises:
            PolicyLostError: the policy went away in every one of several attempts.
            StoppedError: the run ends.
            PolicyReplyError: the policy's answers cannot be executed. Its own errors pass through as well.
        """
        started = time.perf_counter()
        episode, error, retried = self._attempts(job)
        wall = time.perf_counter() - started
        last_image = None if episode is None else self._last_image(job, episode)
        versions = {**self._conditions.versions, **getattr(self.slot.simulator, "versions", {})}
        return describe_episode(
            self._plan,
            self._arm,
            self._conditions.model_copy(update={"versions": versions}),
            job,
            episode,
            error=error,
            retried=retried,
            wall_seconds=wall,
            last_image=last_image,
        )

    def close(self) -> None:
        """Release the agent; the slot stays for the next arm."""
        self._agent.close()

    def _attempts(self, job: EpisodeJob) -> tuple[Episode | None, str | None, bool]:
        """Return the episode, or None after the second failure; the simulator's words; whether it failed."""
        error: str | None = None
        failures = losses = 0
        while failures < 2:
            try:
                self.slot.open(job.task, self._plan.seed, self._plan.placement)
                return self._agent.play(self.slot.simulator, job, self._plan), error, failures > 0
            except SimulatorError as failure:
                self._check_stopped(failure)
                # Whatever is left of the simulator is not to be trusted.
                self.slot.discard()
                failures += 1
                error = str(failure)
                outlook = "played once more" if failures == 1 else "counted apart"
                logger.warning("%s: simulator error, %s: %s", job, outlook, error)
            except PolicyLostError as loss:
                self._check_stopped(loss)
                losses += 1
                if losses > _POLICY_LOSSES:
                    raise
                logger.warning(
                    "%s: the policy is gone, the episode waits for it: %s",
                    job,
                    loss,
                )
                self._agent.recover()
        return None, error, True

    def _check_stopped(self, cause: Exception) -> None:
        if self._stopped():
            raise StoppedError("the run was stopped") from cause

    def _last_image(self, job: EpisodeJob, episode: Episode) -> NDArray[np.uint8] | None:
        if episode.last_image is not None:
            return episode.last_image
        try:
            return self.slot.simulator.run(LiberoSimulator.view)
        except SimulatorError as failure:
            # The episode was played to its end; only its picture is lost.
            self._check_stopped(failure)
            logger.warning("%s: no last view: %s", job, failure)
            self.slot.discard()
            return None


def describe_episode(
    plan: EvalPlan,
    arm: str,
    conditions: ArmConditions,
    job: EpisodeJob,
    episode: Episode | None,
    *,
    error: str | None,
    retried: bool,
    wall_seconds: float,
    last_image: NDArray[np.uint8] | None = None,
) -> PlayedEpisode:
    """An episode as it is kept.

    Args:
        plan: How it was played.
        arm: By whom.
        conditions: Under what all of the arm's episodes are played.
        job: What was played.
        episode: What happened, or None if the simulator failed twice.
        error: What the simulator said when it failed.
        retried: Whether it did.
        wall_seconds: Time that it took.
        last_image: The last agent view (S, S, 3).
    """
    played = episode or Episode()
    name = f"{arm}/task{job.task.index:02d}_init{job.init_state:02d}_seed{plan.seed}"
    video = None
    if played.frames and (plan.video == "all" or (plan.video == "failures" and not played.success)):
        video = encode_video(played.frames, max(1, CONTROL_HZ // plan.record_every))
    record = EpisodeRecord(
        EpisodeKey(arm, plan.suite.name, job.task.index, job.init_state, plan.seed),
        EpisodeConditions(
            **dict(conditions),
            task_name=job.task.name,
            language=job.task.language,
            replan_steps=plan.replan_steps,
            max_steps=plan.step_limit,
        ),
        EpisodeOutcome(
            success=None if episode is None else episode.success,
            steps=played.steps,
            lifted_wrong=played.lifted_wrong,
            queries=played.queries,
            # The name of a folder may be no text; a line of the records has to be.
            simulator_error=None if error is None else error.encode("utf-8", "replace").decode("utf-8"),
            retried=retried,
            jerk=round(played.jerk, 6),
            gripper_switches=None if episode is None else played.gripper_switches,
            seam_jump=None if played.seam_jump is None else round(played.seam_jump, 6),
            actions=None if played.actions is None else f"actions/{name}.npy",
            actions_hash=played.actions_hash,
            video=f"videos/{name}_{'success' if played.success else 'failure'}.mp4" if video else None,
            thumbnail=None if last_image is None else f"thumbnails/{name}.jpg",
        ),
        EpisodeTiming(
            wall_seconds=round(wall_seconds, 3),
            query_ms=[round(1000 * seconds, 1) for seconds in played.query_seconds],
            simulator_ms_per_step=round(1000 * played.step_seconds / max(1, played.simulated_steps), 3),
            render_ms_per_image=round(1000 * played.render_seconds / max(1, played.renders), 3),
        ),
    )
    return PlayedEpisode(
        record,
        video,
        None if last_image is None else encode_thumbnail(last_image),
        None if played.actions is None else encode_actions(played.actions),
    )
