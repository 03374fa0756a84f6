"""Robots as harnesses know them: from their observations to a policy's, and from its actions to theirs.

Which robot it is follows from the keys of the policy that is served.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from gr00t.data.leaves import numbers_of
from gr00t.serving.endpoints import RequestError
from gr00t.serving.harnesses import libero
from gr00t.serving.harnesses.images import frame_of
from gr00t.serving.harnesses.libero import ReplyError
from gr00t.spelling import did_you_mean

_IMAGE = {"name": "image", "dims": 0, "format": "rgb_hwc_uint8"}
_LANGUAGE = {"name": "language", "dims": 0, "format": "language"}
_POSITION = {"name": "position", "dims": 3, "format": "delta_xyz", "range": [-1, 1]}
_ROTATION = {"name": "rotation", "dims": 3, "format": "axis_angle", "range": [-3.15, 3.15]}
# Benchmarks of vla-eval whose angles are not folded below pi once we announce that we want them so.
_KEEP_ANGLES = ("LIBEROBenchmark", "LIBEROPlusBenchmark")


class Robot(Protocol):
    """One robot.

    Attributes:
        observation_params: how vla-eval's benchmark is to be built.
        action_spec: what the numbers of an action mean, in vla-eval's words.
        observation_spec: what is wanted of an observation.
    """

    observation_params: ClassVar[dict[str, Any]]
    action_spec: ClassVar[dict[str, Any]]
    observation_spec: ClassVar[dict[str, Any]]

    def from_vla_eval(self, told: Mapping[str, Any], benchmark: str) -> dict[str, Any]:
        """Return the policy's observation.

        Args:
            told: what an OBSERVATION carries.
            benchmark: who made it, as its HELLO said.

        Raises:
            RequestError: something is missing or has the wrong shape.
        """

    def from_openpi(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """Return the policy's observation; see `from_vla_eval`."""

    def actions(self, reply: Mapping[str, Any]) -> NDArray[np.float32]:
        """Return a policy's answer as the robot executes it, (H, A).

        Raises:
            ReplyError: it is no chunk of actions for this robot.
        """


class LiberoRobot:
    """LIBERO's arm: two cameras, position, axis-angle, two fingers; actions of seven numbers."""

    observation_params: ClassVar[dict[str, Any]] = {
        "send_wrist_image": True,
        "send_state": True,
        "quat_no_antipodal": True,
    }
    action_spec: ClassVar[dict[str, Any]] = {
        "position": _POSITION,
        "rotation": _ROTATION,
        "gripper": {"name": "gripper", "dims": 1, "format": "binary_close_positive", "range": [-1, 1]},
    }
    observation_spec: ClassVar[dict[str, Any]] = {
        "agentview": _IMAGE,
        "wrist": _IMAGE,
        "state": {"name": "state", "dims": 8, "format": "eef_pos3_axisangle3_gripper2"},
        "language": _LANGUAGE,
    }

    def from_vla_eval(self, told: Mapping[str, Any], benchmark: str) -> dict[str, Any]:
        """See `Robot`."""
        images = _map(told, "images")
        state = _numbers("states", _entry(told, "states"), libero.STATE_WIDTH)
        if benchmark.rpartition(":")[2] not in _KEEP_ANGLES:
            state = libero.unfold(state)
        return libero.robot_input(
            frame_of("images: agentview", _entry(images, "agentview", "images: ")),
            frame_of("images: wrist", _entry(images, "wrist", "images: ")),
            state,
            _text(told, "task_description"),
        )

    def from_openpi(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """See `Robot`."""
        cameras = ("observation/image", "observation/wrist_image")
        image, wrist = (frame_of(key, _entry(told, key)) for key in cameras)
        state = _numbers("observation/state", _entry(told, "observation/state"), libero.STATE_WIDTH)
        return libero.robot_input(image, wrist, state, _text(told, "prompt"))

    def actions(self, reply: Mapping[str, Any]) -> NDArray[np.float32]:
        """See `Robot`."""
        return libero.robot_actions(reply).astype(np.float32)


@dataclass(frozen=True)
class KeyedRobot:
    """A robot whose harness already speaks of it by the policy's keys, as RoboCasa365 does.

    Attributes:
        cameras: keys of the policy's frames.
        states: keys of its states.
        instruction: key of its instruction.
        action_keys: keys of its actions, in the order in which the harness joins them.
    """

    cameras: tuple[str, ...]
    states: tuple[str, ...]
    instruction: str
    action_keys: tuple[str, ...]
    observation_params: ClassVar[dict[str, Any]] = {}
    action_spec: ClassVar[dict[str, Any]] = {}
    observation_spec: ClassVar[dict[str, Any]] = {}

    def from_vla_eval(self, told: Mapping[str, Any], benchmark: str) -> dict[str, Any]:
        """See `Robot`."""
        return self._read(_map(told, "images"), _map(told, "state"), _text(told, "task_description"))

    def from_openpi(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """See `Robot`."""
        return self._read(told, told, _text(told, "prompt"))

    def actions(self, reply: Mapping[str, Any]) -> NDArray[np.float32]:
        """See `Robot`."""
        missing = [key for key in self.action_keys if key not in reply]
        if missing:
            raise ReplyError(f"the policy's answer has no {missing[0]!r}; it has: {', '.join(sorted(reply))}")
        parts = [np.asarray(reply[key], dtype=np.float32) for key in self.action_keys]
        return np.concatenate([part[:, None] if part.ndim == 1 else part for part in parts], axis=1)

    def _read(self, images: Mapping[str, Any], states: Mapping[str, Any], text: str) -> dict[str, Any]:
        return {
            **{key: frame_of(key, _entry(images, key))[None] for key in self.cameras},
            **{key: _numbers(key, _entry(states, key))[None] for key in self.states},
            self.instruction: [text],
        }


# vla-eval's order; its gripper closes at 1 and its mode is 0 or 1, as the policies of RoboCasa365 have them.
_ROBOCASA_ACTIONS = (
    *("action.end_effector_position", "action.end_effector_rotation", "action.gripper_close"),
    *("action.base_motion", "action.control_mode"),
)


def robot_of(modalities: Mapping[str, Any]) -> Robot:
    """Return the robot of a policy, told by its keys.

    Args:
        modalities: A ModalityConfig per modality.

    Raises:
        RequestError: A policy without cameras or an instruction.
    """
    keys = {name: tuple(config.modality_keys) for name, config in modalities.items()}
    cameras, states = keys.get("video", ()), keys.get("state", ())
    named = {key.partition(".")[2] for key in states}
    if set(cameras) == set(libero.CAMERAS) and named == set(libero.STATE_KEYS):
        return LiberoRobot()
    instruction = keys.get("language", ())
    if not cameras or len(instruction) != 1:
        raise RequestError("a policy without cameras or with no instruction: only its own wire can ask it")
    actions = keys.get("action", ())
    if set(actions) == set(_ROBOCASA_ACTIONS):
        actions = _ROBOCASA_ACTIONS
    return KeyedRobot(cameras, states, instruction[0], actions)


def _entry(told: Mapping[str, Any], key: str, where: str = "") -> Any:
    if key not in told:
        known = did_you_mean(key, list(told)[:50]) if told else "it is empty"
        raise RequestError(f"{where}no {key!r} in the observation; {known}")
    return told[key]


def _map(told: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = _entry(told, key)
    if not isinstance(value, dict):
        raise RequestError(f"{key}: expected a map, got {type(value).__name__}")
    return value


def _text(told: Mapping[str, Any], key: str) -> str:
    value = _entry(told, key)
    if isinstance(value, np.ndarray) and value.dtype.kind == "U" and value.size == 1:
        value = str(value.reshape(())[()])
    if not isinstance(value, str):
        raise RequestError(f"{key}: expected text, got {type(value).__name__}")
    return value


def _numbers(key: str, value: Any, width: int | None = None) -> NDArray[np.float64]:
    """Return a state in double precision, in which LIBERO's own clients send theirs."""
    array = numbers_of(key, value)
    if array.ndim != 1:
        raise RequestError(f"{key}: expected numbers in one dimension, got shape {array.shape}")
    if width is not None and len(array) != width:
        raise RequestError(f"{key}: expected {width} numbers, got {len(array)}")
    return array.astype(np.float64)
