"""LIBERO's robot in a policy's words, whoever runs the simulator; and the rule by which noise is drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

STATE_KEYS = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
INSTRUCTION_KEY = "annotation.human.action.task_description"
CAMERAS = ("video.image", "video.wrist_image")
STATE_WIDTH = 8


class ReplyError(ValueError):
    """A policy's answer that is no chunk of actions for this robot."""


def noise_seed(seed: int, suite: str, task: int | str, init_state: int, query: int) -> int:
    """A number in [0, 2^32) that these five determine; torch's CPU generator uses no more bits of a seed.

    Two runs that differ in one setting only (say, quantized or not) so meet the same noise, whatever order
    their episodes are played in.
    """
    text = f"{seed}/{suite}/{task}/{init_state}/{query}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def robot_input(
    image: NDArray[np.uint8], wrist_image: NDArray[np.uint8], state: NDArray[np.float64], language: str
) -> dict[str, Any]:
    """Return an observation under the keys of LIBERO's data configurations: one time step.

    Args:
        image: (H, W, 3), upright as in LIBERO's data sets; so is `wrist_image`.
        wrist_image: The other camera's.
        state: (8,) float64: position, axis-angle (up to 2 pi, as robosuite writes it), two fingers.
        language: The instruction.
    """
    values: dict[str, Any] = dict(zip(CAMERAS, (image[None], wrist_image[None]), strict=True))
    for index, key in enumerate(STATE_KEYS):
        values[f"state.{key}"] = state[None, index : index + 1] if key != "gripper" else state[None, index:]
    values[INSTRUCTION_KEY] = [language]
    return values


def robot_actions(reply: Mapping[str, Any], count: int | None = None) -> NDArray[np.float64]:
    """The first `count` actions of a policy's answer as the robot takes them, (count, 7) float64.

    Policies open the gripper at 1 and close it at 0; LIBERO opens at -1 and closes at 1.

    Args:
        reply: What the policy answered.
        count: How many are wanted; None for all.

    Raises:
        ReplyError: A key is missing, the chunk is too short, or a number is not finite.
    """
    columns = []
    for key in STATE_KEYS:
        name = f"action.{key}"
        if name not in reply:
            raise ReplyError(f"the policy's answer has no {name!r}; it has: {', '.join(sorted(reply))}")
        values = np.asarray(reply[name], dtype=np.float64)
        column = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
        if column.ndim != 1:
            raise ReplyError(f"{name}: expected shape (H,) or (H, 1), got {values.shape}")
        columns.append(column)
    horizons = {len(column) for column in columns}
    if len(horizons) != 1:
        raise ReplyError(f"action chunks of different lengths: {sorted(horizons)}")
    actions = np.stack(columns, axis=-1)
    if count is not None and len(actions) < count:
        raise ReplyError(
            f"--replan-steps {count}: the policy answers with chunks of {len(actions)} actions only"
        )
    actions = actions[:count]
    if not np.isfinite(actions).all():
        raise ReplyError("the policy's answer contains actions that are not finite numbers")
    actions[:, 6] = np.sign(1.0 - 2.0 * actions[:, 6])
    return actions


def unfold(state: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a state whose turn is written as robosuite, and so LIBERO's data, has it: by up to 2 pi.

    A turn by the angle t about an axis is one by 2 pi - t about the opposite axis. Harnesses that keep angles
    below pi take the second where t is above pi. LIBERO's gripper points down all the time: its axis has a
    positive x where the angle is written out, so a negative one shows that it was turned around.

    Args:
        state: (8,) position, axis-angle, two fingers.
    """
    turn = state[3:6]
    angle = float(np.linalg.norm(turn))
    if turn[0] >= 0.0 or angle == 0.0:
        return state
    unfolded = state.copy()
    unfolded[3:6] = turn * (1.0 - 2.0 * np.pi / angle)
    return unfolded
