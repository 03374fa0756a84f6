"""Episodes of the scripted expert as a policy is trained on them: what it would see, and what it should do.

The expert's actions are disturbed on the way to the arm, but recorded as it meant them; see `disturbance`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gr00t.libero.expert.disturbance import Disturbance
from gr00t.libero.expert.motion import Action
from gr00t.libero.simulator.expert_episode import play_expert
from gr00t.libero.simulator.observation import Observation
from gr00t.libero.simulator.simulator import LiberoSimulator


@dataclass(frozen=True)
class Recording:
    """One solved episode of T steps: before each, both views and the state; and what the expert then meant.

    Attributes:
        image: (T, S, S, 3) uint8, as `Observation.image`.
        wrist_image: (T, S, S, 3) uint8.
        states: (T, 8) float32.
        actions: (T, 7) float32; the gripper as policies command it, 1 open and 0 closed.
    """

    image: NDArray[np.uint8]
    wrist_image: NDArray[np.uint8]
    states: NDArray[np.float32]
    actions: NDArray[np.float32]


class StepRecorder:
    """Looks on while the expert plays.

    Args:
        size: side of the recorded images, a divisor of the simulator's; they are averaged down.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._views: list[Observation] = []
        self._meant: list[Action] = []

    def __call__(self, observe: Callable[[], Observation], executed: Action, meant: Action) -> None:
        """Take down a step; see `play_expert`."""
        seen = observe()
        image, wrist_image = (shrink(each, self._size) for each in (seen.image, seen.wrist_image))
        self._views.append(Observation(image, wrist_image, seen.state))
        self._meant.append(meant)

    def recording(self) -> Recording:
        """All steps so far, at least one."""
        actions: NDArray[Any] = np.clip(np.stack(self._meant), -1.0, 1.0)
        actions[:, 6] = (1.0 - actions[:, 6]) / 2.0
        return Recording(
            image=np.stack([view.image for view in self._views]),
            wrist_image=np.stack([view.wrist_image for view in self._views]),
            states=np.stack([view.state for view in self._views]).astype(np.float32),
            actions=actions.astype(np.float32),
        )


def demonstrate(
    simulator: LiberoSimulator, init_state: int, max_steps: int, level: float, seed: int, size: int
) -> Recording | None:
    """Play the expert in the task that `simulator` has open, and record it.

    Args:
        simulator: draws images with a multiple of `size` as their side.
        init_state: number of the initial state.
        max_steps: control steps after which the expert has failed.
        level: of the `Disturbance`.
        seed: of the disturbance.
        size: see `StepRecorder`.

    Returns:
        The recording; None if the task was not solved.
    """
    recorder = StepRecorder(size)
    disturb = Disturbance(level, np.random.default_rng([seed, init_state]))
    # Only what is solved is kept: that it can be need not be proven before.
    episode = play_expert(simulator, init_state, max_steps, on_step=recorder, disturb=disturb, prove=False)
    return recorder.recording() if episode.success else None


def shrink(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Average an image (S, S, 3) down to (size, size, 3), rounding to the nearest level.

    Raises:
        ValueError: `size` does not divide S.
    """
    factor, rest = divmod(len(image), size)
    if rest:
        raise ValueError(f"images of {len(image)} pixels cannot be averaged down to {size}: not a divisor")
    if factor == 1:
        return image
    # Sums of whole slices: NumPy adds along two short axes seven times as slowly.
    total = np.zeros((size, size, 3), dtype=np.uint32)
    for row in range(factor):
        for column in range(factor):
            total += image[row::factor, column::factor]
    return ((total + factor * factor // 2) // (factor * factor)).astype(np.uint8)
