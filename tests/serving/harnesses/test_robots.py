"""Robots by the keys of their policies. Oracle: RoboCasa365's adapter in vla-eval 0.8.0."""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np
import pytest

from examples.Libero.custom_data_config import LiberoDataConfig
from examples.RoboCasa.data_config import RoboCasa365DataConfig
from gr00t.data.dataset import ModalityConfig
from gr00t.experiment.data_config import load_data_config
from gr00t.serving.endpoints import RequestError
from gr00t.serving.harnesses.libero import ReplyError
from gr00t.serving.harnesses.openpi import OpenPiServer
from gr00t.serving.harnesses.robots import KeyedRobot, LiberoRobot, robot_of
from gr00t.serving.harnesses.vla_eval import VlaEvalServer
from tests.serving.harnesses.test_openpi import packed
from tests.serving.harnesses.test_vla_eval import png
from tests.serving.websocket.peers import array, asked, client, message, serving

# vla_eval/benchmarks/robocasa365/benchmark.py: VIDEO_KEYS, STATE_KEYS, ACTION_COMPONENTS.
CAMERAS = ("robot0_agentview_left", "robot0_agentview_right", "robot0_eye_in_hand")
STATES = {
    "state.end_effector_position_relative": 3,
    "state.end_effector_rotation_relative": 4,
    "state.gripper_qpos": 2,
    "state.base_position": 3,
    "state.base_rotation": 4,
}
ACTIONS = {
    "action.end_effector_position": 3,
    "action.end_effector_rotation": 3,
    "action.gripper_close": 1,
    "action.base_motion": 4,
    "action.control_mode": 1,
}


class KitchenPolicy:
    """Answers with numbers that tell of which key they are, in an order that is not the benchmark's."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def get_modality_config(self) -> dict[str, ModalityConfig]:
        return RoboCasa365DataConfig().modality_config()

    def get_action(self, observations: dict[str, Any], **options: Any) -> dict[str, np.ndarray]:
        self.seen.append(observations)
        return {
            key: np.full((16, width), number, np.float32)
            for number, (key, width) in reversed(list(enumerate(ACTIONS.items())))
        }


WANTED = np.repeat(np.arange(5, dtype=np.float32), list(ACTIONS.values()))


def told_array(value: np.ndarray) -> dict[str, Any]:
    fields = {"data": value.tobytes(), "dtype": value.dtype.str, "shape": list(value.shape)}
    return {"__ndarray__": True, **fields}


def test_robocasa_over_vla_eval() -> None:
    policy = KitchenPolicy()
    content = {
        "images": {f"video.{camera}": png(number) for number, camera in enumerate(CAMERAS)},
        "state": {key: told_array(np.arange(width, dtype=np.float32)) for key, width in STATES.items()},
        "task_description": "open the drawer",
    }
    with serving(VlaEvalServer, policy) as (_, port), client(port) as ws:
        hello = asked(ws, message("hello", {"benchmark": "vla_eval.benchmarks.robocasa365:RoboCasa365"}))
        assert hello["payload"]["observation_params"] == {}
        reply = asked(ws, message("observation", content))
        assert array(reply["payload"]["actions"]).tobytes() == WANTED.tobytes()
    seen = policy.seen[0]
    assert {key: value.shape for key, value in seen.items() if key.startswith("video.")} == {
        f"video.{camera}": (1, 16, 16, 3) for camera in CAMERAS
    }
    assert {key: seen[key].shape for key in STATES} == {key: (1, width) for key, width in STATES.items()}
    (language,) = RoboCasa365DataConfig().modality_config()["language"].modality_keys
    assert seen[language] == ["open the drawer"]


def test_other_robots_over_openpi_by_their_own_keys() -> None:
    policy = KitchenPolicy()
    told = {
        **{f"video.{camera}": packed(np.zeros((9, 8, 3), np.uint8)) for camera in CAMERAS},
        **{key: packed(np.arange(width, dtype=np.float64)) for key, width in STATES.items()},
        "prompt": "open the drawer",
    }
    with serving(OpenPiServer, policy) as (_, port), client(port) as ws:
        ws.recv(5)
        reply = asked(ws, msgpack.packb(told))
    np.testing.assert_array_equal(array(reply["actions"]), np.tile(WANTED, (16, 1)))


def test_the_robot_follows_from_the_keys() -> None:
    assert isinstance(robot_of(LiberoDataConfig().modality_config()), LiberoRobot)
    robot = robot_of(load_data_config("so100").modality_config())
    assert isinstance(robot, KeyedRobot)
    assert robot.action_keys == ("action.single_arm", "action.gripper")
    with pytest.raises(ReplyError, match=r"no 'action.gripper'; it has: action.single_arm"):
        robot.actions({"action.single_arm": np.zeros((16, 5))})
    with pytest.raises(RequestError, match="a policy without cameras or with no instruction"):
        robot_of({"state": ModalityConfig(delta_indices=[0], modality_keys=["state.x"])})
