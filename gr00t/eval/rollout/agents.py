"""What can act in an episode: a served policy, and four controls that no policy may be judged without.

`zero` holds still: what it solves was solved from the start. `replay` executes one recorded episode of the
expert per task, eyes closed: what it solves needs no policy that looks, and on some tasks that is most.
The served policy itself with grey images knows only the instruction and its own pose: what it solves then
needs no eyes either. `expert` sees the simulator's state: what it cannot solve says more about the scene than
about a policy.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gr00t.eval.arms.recipes import CAMERA, GREY
from gr00t.eval.rollout.episode import Episode, PolicyClient, Simulator, play_episode
from gr00t.eval.rollout.plan import EpisodeJob, EvalPlan
from gr00t.libero.simulator.expert_episode import play_expert
from gr00t.libero.simulator.simulator import IDLE_ACTION, LiberoSimulator
from gr00t.libero.tasks.suites import Task, load_init_states
from gr00t.serving.client import NoReplyError, NoServerError, ServerError

logger = logging.getLogger(__name__)

# Of 255; nearly 0 for a network, which sees images from -1 to 1.
MID_GREY = 128


class PolicyLostError(RuntimeError):
    """The policy went away in the middle of an episode, which says nothing about what it can do."""


class Agent(Protocol):
    """Whoever acts, for one simulator."""

    def play(self, simulator: Simulator, job: EpisodeJob, plan: EvalPlan) -> Episode:
        """Play an episode of the task that `simulator` has open.

        Raises:
            PolicyLostError: the policy is gone; after `recover` the episode can be played anew.
            SimulatorError: if the simulator fails.
        """

    def recover(self) -> None:
        """Return when the lost policy is back; raise if it stays away."""

    def close(self) -> None:
        """Release what belongs to it."""


class PolicyHost(Protocol):
    """Where a served policy lives, shared by all who ask it."""

    def connect(self) -> PolicyClient:
        """A connection of the caller's own."""

    def recover(self) -> None:
        """Return when a lost policy is back, the same as before."""

    def confirm(self, policy: PolicyClient) -> None:
        """Raise if what answers a connection now is not what the run began with."""


class GreyPolicy:
    """A policy that is shown one even grey by every camera; state and instruction are what they are."""

    def __init__(self, policy: PolicyClient) -> None:
        self._policy = policy

    def get_action(self, observations: dict[str, Any], *, seed: int | None = None) -> dict[str, Any]:
        """See `PolicyClient`."""
        shown = {
            key: np.full_like(value, MID_GREY) if key.startswith("video.") else value
            for key, value in observations.items()
        }
        return self._policy.get_action(shown, seed=seed)


class PolicyAgent:
    """Asks a policy server; one connection, for one thread.

    Args:
        host: Where the policy lives.
        images: What it is shown, `CAMERA` or `GREY` of `gr00t.eval.arms.recipes`.
    """

    def __init__(self, host: PolicyHost, images: str = CAMERA) -> None:
        self._host = host
        self._policy: Any = host.connect()
        self._asked: PolicyClient = GreyPolicy(self._policy) if images == GREY else self._policy

    def play(self, simulator: Simulator, job: EpisodeJob, plan: EvalPlan) -> Episode:
        """See `Agent`."""
        try:
            episode = play_episode(
                simulator,
                self._asked,
                job.task,
                job.init_state,
                seed=plan.seed,
                max_steps=plan.step_limit,
                replan_steps=plan.replan_steps,
                record_every=plan.frame_interval,
            )
            # A server that was replaced between two queries answers without a word of it.
            self._host.confirm(self._policy)
        except (NoServerError, NoReplyError) as error:
            raise PolicyLostError(str(error)) from error
        except ServerError as error:
            # A server on its way out may refuse what it still receives; one that stays means what it says.
            if self._policy.ping(2_000):
                raise
            raise PolicyLostError(str(error)) from error
        return episode

    def recover(self) -> None:
        """See `Agent`."""
        self._host.recover()

    def close(self) -> None:
        """See `Agent`."""
        self._policy.close()


class Zero:
    """Holds still, fingers open."""

    def play(self, simulator: Simulator, job: EpisodeJob, plan: EvalPlan) -> Episode:
        """See `Agent`."""
        return open_loop(simulator, job, plan, np.empty((0, 7)))

    def recover(self) -> None:
        """See `Agent`; there is nothing to lose."""

    def close(self) -> None:
        """See `Agent`."""


class Expert(Zero):
    """The scripted expert, with noise on its motions if asked."""

    def __init__(self, noise: float = 0.0) -> None:
        self._noise = noise

    def play(self, simulator: Simulator, job: EpisodeJob, plan: EvalPlan) -> Episode:
        """See `Agent`."""
        played = simulator.run(
            play_expert, job.init_state, plan.step_limit, self._noise, plan.seed, plan.frame_interval
        )
        episode = Episode(success=played.success, steps=len(played.actions))
        episode.add(played.timing)
        if len(played.actions):
            episode.note_actions(played.actions)
        return episode


class Replay(Zero):
    """Executes one episode that the expert played on another initial state, whatever happens.

    One per task, and so one per prompt where prompts are the tasks (`libero_object_prompts`), with the run's
    placement and seed: on wide placements the expert plays a wide one, too.

    Args:
        count_states: Number of a task's recorded initial states, of which the last is the one.
    """

    def __init__(self, count_states: Callable[[Task], int] | None = None) -> None:
        self._count_states = count_states or (lambda task: len(load_init_states(task)))
        self._recorded: dict[int, NDArray[np.float64]] = {}

    def play(self, simulator: Simulator, job: EpisodeJob, plan: EvalPlan) -> Episode:
        """See `Agent`."""
        task = job.task
        if task.index not in self._recorded:
            # Without noise: whichever simulator records it, it is the same.
            last = self._count_states(task) - 1
            played = simulator.run(play_expert, last, plan.step_limit)
            if not played.success:
                logger.warning(
                    "replay: the expert fails in task %d, initial state %d; its attempt is replayed "
                    "nevertheless",
                    task.index,
                    last,
                )
            self._recorded[task.index] = played.actions
        return open_loop(simulator, job, plan, self._recorded[task.index])


def open_loop(simulator: Simulator, job: EpisodeJob, plan: EvalPlan, actions: NDArray[np.float64]) -> Episode:
    """Execute `actions` (N, 7), then hold still until the step limit; look at nothing but success."""
    rest = np.tile(np.asarray(IDLE_ACTION), (max(0, plan.step_limit - len(actions)), 1))
    if len(actions):
        rest[:, 6] = actions[-1, 6]
    commands = np.concatenate([actions, rest])[: plan.step_limit]
    episode = Episode()
    progress = simulator.run(LiberoSimulator.start_episode, job.init_state)
    episode.add(progress)
    if not progress.success:
        progress = simulator.run(LiberoSimulator.execute, commands, plan.frame_interval)
        episode.add(progress)
        episode.steps = progress.steps
        episode.note_actions(commands[: progress.steps])
    episode.success = progress.success
    return episode
