"""An episode of the scripted expert, which knows the simulation's state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gr00t.libero.expert.expert import disturbed, plan
from gr00t.libero.expert.motion import Action
from gr00t.libero.expert.scene import Scene
from gr00t.libero.simulator.observation import Observation, StepResult
from gr00t.libero.simulator.simulator import LiberoSimulator

OnStep = Callable[[Callable[[], Observation], Action, Action], None]


@dataclass
class ExpertEpisode:
    """What the scripted expert did in one episode.

    Attributes:
        success: Whether the task's goal holds after the last step.
        actions: What was executed, (N, 7) float64.
        timing: Times, and frames for a video; its `steps` include the settling ones.
    """

    success: bool
    actions: NDArray[np.float64]
    timing: StepResult

    @property
    def steps(self) -> int:
        """Control steps that the expert took."""
        return len(self.actions)

    @property
    def frames(self) -> list[NDArray[np.uint8]]:
        """Agent views recorded on the way."""
        return self.timing.frames


def play_expert(
    simulator: LiberoSimulator,
    init_state: int,
    max_steps: int,
    noise: float = 0.0,
    seed: int = 0,
    record_every: int = 0,
    on_step: OnStep | None = None,
    disturb: Callable[[Action], Action] | None = None,
    prove: bool = True,
) -> ExpertEpisode:
    """Let the expert play an episode of the task that `simulator` has open.

    Args:
        simulator: Has a task open.
        init_state: Number of the recorded initial state.
        max_steps: Control steps after which the expert has failed.
        noise: Gaussian noise on its motion commands, see `gr00t.libero.expert.expert.disturbed`.
        seed: Seeds the noise, together with the task and the initial state.
        record_every: Keep every so many-th agent view for a video; 0 draws nothing.
        on_step: For demonstrations: told before each step a function that draws and returns what a policy
            would see, the action (7,) that will be executed, and the one that the expert means.
        disturb: Instead of `noise`: from what the expert means to what is executed.
        prove: Whether a wide placement must have been solved once already, see `place_widely`.
    """
    result = simulator.settle(init_state, prove)
    random = np.random.default_rng([seed, simulator.task.index, init_state])
    by_noise = disturb or (lambda meant: disturbed(meant, noise, random))
    return play_on(simulator, result, max_steps, record_every, on_step, by_noise)


def play_on(
    simulator: LiberoSimulator,
    result: StepResult,
    max_steps: int,
    record_every: int = 0,
    on_step: OnStep | None = None,
    disturb: Callable[[Action], Action] = np.copy,
) -> ExpertEpisode:
    """Let the expert go on from where the episode of `simulator` is, however it came there.

    Args:
        simulator: In an episode.
        result: What led there; goes on.
        max_steps: Control steps from there on after which the expert has failed.
        record_every: See `play_expert`, as for the rest.
        on_step: See there.
        disturb: See there.
    """
    actions: list[Action] = []
    for meant in plan(Scene(simulator.env)):
        if result.success or len(actions) == max_steps:
            break
        executed = disturb(meant)
        if on_step is not None:
            on_step(lambda: simulator.observe(result), executed, meant)
        simulator.step(executed, result)
        actions.append(executed)
        simulator.record(result, record_every)
    return ExpertEpisode(result.success, np.reshape(actions, (-1, 7)), result)
