"""One episode: observations to the policy, action chunks to the simulator.

A query returns a chunk of H actions, of which the first `replan_steps` are executed before the next query.
The flow noise of every query is seeded from (seed, suite, task, initial state, query), so that two runs that
differ in one setting only (say, quantized or not) meet the same noise, whatever order the episodes are played
in.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from gr00t.libero.simulator.observation import Observation, StepResult
from gr00t.libero.simulator.simulator import LiberoSimulator
from gr00t.libero.tasks.suites import LiberoError, Task
from gr00t.serving.harnesses import libero
from gr00t.serving.harnesses.libero import noise_seed, robot_input

P = ParamSpec("P")
Result = TypeVar("Result")


class PolicyClient(Protocol):
    """What the runner needs of a policy; `gr00t.serving.client.ExternalRobotInferenceClient` is one."""

    def get_action(self, observations: dict[str, Any], *, seed: int | None = None) -> dict[str, Any]:
        """Return `action.x` to `action.yaw` and `action.gripper`, each (H,) or (H, 1)."""


class Simulator(Protocol):
    """What the runner needs of a simulator; `SimulatorProcess` is one."""

    def open_task(self, task: Task, seed: int, placement: str = "recorded") -> int:
        """Create a task and return its number of initial states."""

    def run(
        self,
        function: Callable[Concatenate[LiberoSimulator, P], Result],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Result:
        """Return what a function of the simulator returns where the simulator is."""

    def close(self) -> None:
        """Release the simulator."""


class PolicyReplyError(LiberoError):
    """The policy's answer is not an action chunk for this robot."""


@dataclass
class Episode:
    """What happened in one episode; times are total seconds, `simulated_steps` include the settling ones.

    `lifted_wrong` is the first object lifted that the task does not speak of; `actions` (N, 7) were executed.
    """

    success: bool = False
    steps: int = 0
    queries: int = 0
    jerk: float = 0.0
    gripper_switches: int = 0
    seam_jump: float | None = None
    actions: NDArray[np.float64] | None = None
    actions_hash: str | None = None
    lifted_wrong: str | None = None
    query_seconds: list[float] = field(default_factory=list)
    simulated_steps: int = 0
    step_seconds: float = 0.0
    render_seconds: float = 0.0
    renders: int = 0
    frames: list[NDArray[np.uint8]] = field(default_factory=list)
    last_image: NDArray[np.uint8] | None = None

    def add(self, progress: StepResult) -> None:
        """Take over the simulator's share."""
        self.simulated_steps += progress.steps
        self.step_seconds += progress.step_seconds
        self.render_seconds += progress.render_seconds
        self.renders += progress.renders
        self.lifted_wrong = self.lifted_wrong or progress.lifted_wrong
        self.frames.extend(progress.frames)
        if progress.observation is not None:
            self.last_image = progress.observation.image
        else:
            self.last_image = progress.frames[-1] if progress.frames else None

    def note_actions(self, actions: NDArray[np.float64], chunk: int | None = None) -> None:
        """Keep the executed actions (N, 7) and what is worth knowing of them; they came `chunk` at a time."""
        self.actions = actions
        self.jerk = action_jerk(actions)
        self.gripper_switches = gripper_switches(actions)
        self.seam_jump = None if chunk is None else seam_jump(actions, chunk)
        self.actions_hash = hashlib.sha256(np.ascontiguousarray(actions).tobytes()).hexdigest()[:16]


def play_episode(
    simulator: Simulator,
    policy: PolicyClient,
    task: Task,
    init_state: int,
    *,
    seed: int,
    max_steps: int,
    replan_steps: int,
    record_every: int = 0,
) -> Episode:
    """Play one episode of the task that `simulator` has open.

    Args:
        simulator: Has `task` open.
        policy: Asked once per executed chunk.
        task: For its instruction and the noise seeds.
        init_state: Number of the recorded initial state.
        seed: Seed of the evaluation.
        max_steps: Control steps after which the robot has failed.
        replan_steps: Actions executed per query.
        record_every: Keep every so many-th agent view in `frames`; 0 keeps none.

    Raises:
        PolicyReplyError: if the policy answers with something else than enough finite actions.
        SimulatorError: if the simulator fails.
    """
    episode = Episode()
    progress = simulator.run(LiberoSimulator.start_episode, init_state)
    episode.add(progress)
    executed: list[NDArray[np.float64]] = []
    while not progress.success and episode.steps < max_steps:
        assert progress.observation is not None
        started = time.perf_counter()
        reply = policy.get_action(
            policy_input(progress.observation, task.language),
            seed=noise_seed(seed, task.suite, task.index, init_state, episode.queries),
        )
        episode.query_seconds.append(time.perf_counter() - started)
        episode.queries += 1
        actions = robot_actions(reply, replan_steps)[: max_steps - episode.steps]
        progress = simulator.run(LiberoSimulator.execute, actions, record_every)
        executed.append(actions[: progress.steps])
        episode.steps += progress.steps
        episode.add(progress)
    episode.success = progress.success
    if executed:
        episode.note_actions(np.concatenate(executed), replan_steps)
    return episode


def policy_input(observation: Observation, language: str) -> dict[str, Any]:
    """The observation under the keys of the LIBERO data configs, one time step, float64 state."""
    return robot_input(observation.image, observation.wrist_image, observation.state, language)


def robot_actions(reply: Mapping[str, Any], count: int) -> NDArray[np.float64]:
    """The first `count` actions of a policy's answer as the robot takes them, (count, 7) float64.

    Raises:
        PolicyReplyError: if a key is missing, the chunk is too short, or a number is not finite.
    """
    try:
        return libero.robot_actions(reply, count)
    except libero.ReplyError as error:
        raise PolicyReplyError(str(error)) from None


def action_jerk(actions: NDArray[np.float64]) -> float:
    """Mean length of the second difference of the motion commands (N, 7): how much the arm is shaken.

    Commands are velocities in effect (a delta per step), so their second difference is a jerk per step cubed.
    """
    if len(actions) < 3:
        return 0.0
    return float(np.linalg.norm(np.diff(actions[:, :6], n=2, axis=0), axis=-1).mean())


def gripper_switches(actions: NDArray[np.float64]) -> int:
    """How often the gripper (last of (N, 7)) is told to do the opposite of what it was told before."""
    return int((np.diff(np.sign(actions[:, 6])) != 0).sum())


def seam_jump(actions: NDArray[np.float64], chunk: int) -> float | None:
    """Mean length of the step from the last motion of a chunk to the first of the next; None without any.

    Args:
        actions: (N, 7) as executed.
        chunk: Actions executed of each chunk.
    """
    first = np.arange(chunk, len(actions), chunk)
    if not len(first):
        return None
    jumps = actions[first, :6] - actions[first - 1, :6]
    return float(np.linalg.norm(jumps, axis=-1).mean())
