"""One episode of a policy, every step of which can be gone back to."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gr00t.eval.rollout.episode import PolicyClient, Simulator, policy_input, robot_actions
from gr00t.libero.datagen.takeovers import begin, execute_and_remember
from gr00t.libero.simulator.snapshot import Moment
from gr00t.libero.tasks.suites import Task
from gr00t.serving.harnesses.libero import noise_seed


@dataclass
class PolicyEpisode:
    """What a policy did in an episode.

    Attributes:
        solved: whether the task's goal holds after the last step.
        moments: one of each control step.
        lifted_wrong: see `gr00t.libero.simulator.observation.StepResult`.
    """

    solved: bool = False
    moments: list[Moment] = field(default_factory=list)
    lifted_wrong: str | None = None

    @property
    def gripper(self) -> NDArray[np.float64]:
        """The command to the fingers at every step, (T,), above 0 to close."""
        return np.array([moment.action[6] for moment in self.moments])


def play_remembering(
    simulator: Simulator,
    policy: PolicyClient,
    task: Task,
    init_state: int,
    *,
    seed: int,
    max_steps: int,
    replan_steps: int,
) -> PolicyEpisode:
    """Play as `gr00t.eval.rollout.episode.play_episode` does, and keep a moment of every step.

    Args:
        simulator: has `task` open.
        policy: asked once per executed chunk.
        task: for its instruction and the noise.
        init_state: number of the recorded initial state.
        seed: of the noise, with task, initial state and query.
        max_steps: control steps after which the policy has failed.
        replan_steps: actions executed per query.

    Raises:
        PolicyReplyError: the policy answers with something else than enough finite actions.
        SimulatorError: the simulator failed.
    """
    episode = PolicyEpisode()
    progress = simulator.run(begin, init_state)
    queries = 0
    while not progress.success and len(episode.moments) < max_steps:
        assert progress.observation is not None
        reply = policy.get_action(
            policy_input(progress.observation, task.language),
            seed=noise_seed(seed, task.suite, task.index, init_state, queries),
        )
        queries += 1
        actions = robot_actions(reply, replan_steps)[: max_steps - len(episode.moments)]
        progress, moments = simulator.run(execute_and_remember, actions)
        episode.moments += moments
        episode.lifted_wrong = episode.lifted_wrong or progress.lifted_wrong
    episode.solved = progress.success
    return episode
