"""What a simulator tells: what policies see, and what some control steps led to."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

CAMERAS = {"image": "agentview", "wrist_image": "robot0_eye_in_hand"}


@dataclass(frozen=True)
class Observation:
    """What a policy sees: two images (S, S, 3) uint8, rotated by 180 degrees, and the state (8,) float64."""

    image: NDArray[np.uint8]
    wrist_image: NDArray[np.uint8]
    state: NDArray[np.float64]


@dataclass
class StepResult:
    """What some control steps led to.

    Attributes:
        steps: Control steps taken; fewer than asked for when the task succeeded on the way.
        success: Whether the task's goal holds after the last step.
        observation: The view after the last step; None after success, when nobody needs it.
        frames: Agent views recorded on the way, for a video.
        step_seconds: Time spent in physics.
        camera_seconds: Time spent drawing, by camera.
        renders: Images drawn.
        lifted_wrong: The first object lifted in this episode that the task does not speak of.
    """

    steps: int = 0
    success: bool = False
    observation: Observation | None = None
    frames: list[NDArray[np.uint8]] = field(default_factory=list)
    step_seconds: float = 0.0
    camera_seconds: dict[str, float] = field(default_factory=dict)
    renders: int = 0
    lifted_wrong: str | None = None

    @property
    def render_seconds(self) -> float:
        """Time spent drawing."""
        return sum(self.camera_seconds.values())


def state_vector(raw: dict[str, Any]) -> NDArray[np.float64]:
    """Hand position (3), orientation as axis times angle (3), both finger positions (2): (8,) float64."""
    return np.concatenate(
        [raw["robot0_eef_pos"], axis_angle(raw["robot0_eef_quat"]), raw["robot0_gripper_qpos"]]
    ).astype(np.float64)


def axis_angle(quaternion: NDArray[np.float64]) -> NDArray[np.float64]:
    """Axis times angle of a unit quaternion (x, y, z, w), the angle within [0, 2 pi] and not wrapped.

    The hand points down, near an angle of pi: wrapping to (-pi, pi] would make the state jump where training
    saw none.
    """
    w = min(1.0, max(-1.0, float(quaternion[3])))
    sine = math.sqrt(1.0 - w * w)
    if math.isclose(sine, 0.0):
        return np.zeros(3)
    return np.asarray(quaternion[:3], dtype=np.float64) * (2.0 * math.acos(w) / sine)
