"""The robot's state as policies see it: the hand's pose and its fingers, in the numbers of LIBERO's data."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


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
