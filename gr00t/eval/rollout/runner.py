"""Play one arm of a run: what is left of its plan, by a pool of simulators, into the run's folder."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence

from gr00t.eval.rollout.agents import Agent
from gr00t.eval.rollout.plan import EpisodeJob, EvalPlan
from gr00t.eval.rollout.pool import Pool
from gr00t.eval.rollout.progress import Progress
from gr00t.eval.rollout.record_parts import ArmConditions, EpisodeKey
from gr00t.eval.rollout.run_folder import RunFolder
from gr00t.libero.tasks.suites import LiberoError

logger = logging.getLogger(__name__)

# One episode may be too much for a simulator. Several in a row are the machine's fault, often its memory's.
_LOSSES_IN_A_ROW = 3


class SimulatorsFailError(LiberoError):
    """Simulators lose one episode after the other: playing on would only burn the rest."""


def jobs_left(
    arm: str, plan: EvalPlan, folder: RunFolder, jobs: Sequence[EpisodeJob] | None = None
) -> list[EpisodeJob]:
    """The episodes that `arm` has not played yet, those last that the simulator has lost before.

    Args:
        arm: Its name.
        plan: How they are played.
        folder: Where records are.
        jobs: Which episodes; all of the plan by default.
    """
    asked = plan.jobs() if jobs is None else jobs
    left = [job for job in asked if not folder.has_played(_key(arm, plan, job))]
    return sorted(left, key=lambda job: _key(arm, plan, job) in folder.records)


def run_arm(
    arm: str,
    plan: EvalPlan,
    pool: Pool,
    make_agent: Callable[[], Agent],
    conditions: ArmConditions,
    folder: RunFolder,
    *,
    jobs: Sequence[EpisodeJob] | None = None,
    left_elsewhere: int = 0,
) -> Progress:
    """Play every episode that is left; each is in the folder as soon as it ends.

    Args:
        arm: Name of the arm, for the records.
        plan: Tasks, episodes of each, and how they are played.
        pool: The simulators, each of which plays one episode at a time.
        make_agent: Makes what acts, once for each simulator.
        conditions: What all of the arm's episodes are played under.
        folder: Where records go, and where those of an earlier session are.
        jobs: Which episodes are meant; all of the plan by default.
        left_elsewhere: Episodes of the arms that follow, for the time left.

    Raises:
        SimulatorsFailError: several episodes in a row were lost to the simulator.
        LiberoError: something that the next episode would meet as well. Errors of the policy's own, too.
    """
    asked = plan.jobs() if jobs is None else jobs
    jobs = jobs_left(arm, plan, folder, asked)
    progress = Progress(arm, len(asked), left_elsewhere=left_elsewhere)
    waiting = set(jobs)
    for job in asked:
        if job not in waiting:
            progress.count(folder.records[_key(arm, plan, job)], now=False)
    if not jobs:
        logger.info("%s: all %d episodes are there", arm, len(asked))
        return progress
    if len(jobs) < len(asked):
        logger.info("%s: %d episodes are there, %d are left", arm, len(asked) - len(jobs), len(jobs))
    # Closed at once when adding a record fails, so that no simulator plays on.
    with contextlib.closing(pool.play(jobs, make_agent, plan, arm, conditions)) as played:
        lost = 0
        for episode in played:
            folder.add(episode)
            progress.count(episode.record)
            lost = 0 if episode.record.was_played else lost + 1
            if lost == _LOSSES_IN_A_ROW:
                raise SimulatorsFailError(
                    f"{arm}: {lost} episodes in a row were lost to the simulator, the last one, task "
                    f"{episode.record.key.task}, initial state {episode.record.key.init_state}, by: "
                    f"{episode.record.outcome.simulator_error}. Nothing more is played; see to the cause, "
                    "often too little memory for the number of --workers. Lost episodes are then played again"
                )
    return progress


def _key(arm: str, plan: EvalPlan, job: EpisodeJob) -> EpisodeKey:
    return EpisodeKey(arm, plan.suite.name, job.task.index, job.init_state, plan.seed)
