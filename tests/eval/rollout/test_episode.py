"""What goes to the policy, what comes back to the robot, and how an episode runs, without a simulator."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from gr00t.eval.rollout.episode import (
    PolicyReplyError,
    action_jerk,
    gripper_switches,
    noise_seed,
    play_episode,
    policy_input,
    robot_actions,
    seam_jump,
)
from gr00t.libero.simulator.observation import Observation, axis_angle, state_vector
from gr00t.serving.harnesses.libero import STATE_KEYS
from tests.eval.rollout.stubs import TASKS, StubPolicy, StubSimulator


def reply(horizon: int = 16, **columns: Any) -> dict[str, Any]:
    actions: dict[str, Any] = {f"action.{key}": np.full((horizon, 1), 0.5, np.float32) for key in STATE_KEYS}
    return {**actions, **{f"action.{key}": np.asarray(value) for key, value in columns.items()}}


def play(simulator: StubSimulator, policy: Any, **options: Any) -> Any:
    defaults: dict[str, Any] = {"seed": 7, "max_steps": 20, "replan_steps": 8}
    simulator.open_task(TASKS[0], 7)
    return play_episode(simulator, policy, TASKS[0], 2, **{**defaults, **options})


def test_the_policy_gets_the_keys_shapes_and_types_of_the_libero_configs() -> None:
    image = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3)
    state = np.arange(8, dtype=np.float64)
    observation = policy_input(Observation(image, image[::-1], state), "pick the milk")
    shapes = {key: getattr(value, "shape", value) for key, value in observation.items()}
    assert shapes == {
        "video.image": (1, 4, 4, 3),
        "video.wrist_image": (1, 4, 4, 3),
        **{f"state.{key}": (1, 1) for key in STATE_KEYS[:6]},
        "state.gripper": (1, 2),
        "annotation.human.action.task_description": ["pick the milk"],
    }
    np.testing.assert_array_equal(observation["video.image"][0], image)
    assert observation["state.yaw"].tolist() == [[5.0]]
    assert observation["state.gripper"].tolist() == [[6.0, 7.0]]
    assert observation["state.x"].dtype == np.float64


def test_gripper_one_opens_and_zero_closes() -> None:
    actions = robot_actions(reply(4, gripper=[1.0, 0.0, 0.7, 0.5]), 4)
    # LIBERO: -1 opens, 1 closes; sign(1 - 2 g).
    assert actions[:, 6].tolist() == [-1.0, 1.0, -1.0, 0.0]
    assert actions[:, :6].tolist() == [[0.5] * 6] * 4
    assert actions.dtype == np.float64


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"action.x": np.zeros(16)}, r"the policy's answer has no 'action.y'; it has: action.x"),
        (reply(4), r"--replan-steps 8: the policy answers with chunks of 4 actions only"),
        (reply(16, yaw=np.full(16, np.nan)), r"actions that are not finite numbers"),
        (reply(16, z=np.zeros((16, 2))), r"action.z: expected shape \(H,\) or \(H, 1\), got \(16, 2\)"),
        (reply(16, z=np.zeros(12)), r"action chunks of different lengths: \[12, 16\]"),
    ],
)
def test_an_answer_that_cannot_be_executed_is_refused_by_text(answer: dict[str, Any], message: str) -> None:
    with pytest.raises(PolicyReplyError, match=message):
        robot_actions(answer, 8)


def test_noise_seeds_depend_on_all_five_and_on_nothing_else() -> None:
    base = ("libero_object", 3, 2, 5)
    # The first 8 hex digits of: printf 0/libero_object/3/2/5 | sha256sum
    assert noise_seed(0, *base) == noise_seed(0, *base) == 3934845302
    others = {
        noise_seed(1, *base),
        noise_seed(0, "libero_goal", 3, 2, 5),
        noise_seed(0, "libero_object", 4, 2, 5),
        noise_seed(0, "libero_object", 3, 3, 5),
        noise_seed(0, "libero_object", 3, 2, 6),
        # The digits alone are the same here: 3, 2, 5 against 32, 5.
        noise_seed(0, "libero_object", 32, 5, 5),
    }
    assert len(others | {noise_seed(0, *base)}) == 7
    assert all(0 <= seed < 2**32 for seed in others)


def test_axis_angle_agrees_with_scipy_below_a_half_turn() -> None:
    rotation = pytest.importorskip("scipy.spatial.transform").Rotation
    vectors = np.random.default_rng(0).normal(size=(50, 3))
    vectors *= np.minimum(1.0, 3.1 / np.linalg.norm(vectors, axis=1, keepdims=True))
    for vector in vectors:
        np.testing.assert_allclose(axis_angle(rotation.from_rotvec(vector).as_quat()), vector, atol=1e-12)
    assert axis_angle(np.array([0.0, 0.0, 0.0, 1.0])).tolist() == [0.0, 0.0, 0.0]


def test_axis_angle_passes_a_half_turn_without_a_jump() -> None:
    angles = np.linspace(math.pi - 0.01, math.pi + 0.01, 21)
    vectors = [axis_angle(np.array([math.sin(a / 2), 0.0, 0.0, math.cos(a / 2)])) for a in angles]
    np.testing.assert_allclose([vector[0] for vector in vectors], angles, atol=1e-12)


def test_the_state_is_position_rotation_fingers() -> None:
    raw = {
        "robot0_eef_pos": np.array([1.0, 2.0, 3.0]),
        "robot0_eef_quat": np.array([1.0, 0.0, 0.0, 0.0]),
        "robot0_gripper_qpos": np.array([0.04, -0.04]),
    }
    np.testing.assert_allclose(state_vector(raw), [1, 2, 3, math.pi, 0, 0, 0.04, -0.04])


def test_an_episode_executes_the_first_actions_of_each_chunk_up_to_the_limit() -> None:
    simulator, policy = StubSimulator({}, {}), StubPolicy()
    episode = play(simulator, policy)
    # 20 steps in chunks of 8: 8 + 8 + 4.
    assert (episode.success, episode.steps, episode.queries) == (False, 20, 3)
    assert len(simulator.actions) == 20
    assert policy.seeds == [noise_seed(7, "libero_object", 0, 2, query) for query in range(3)]
    assert policy.seen[0]["annotation.human.action.task_description"] == ["pick 0"]


def test_an_episode_ends_with_success_in_the_middle_of_a_chunk() -> None:
    simulator, policy = StubSimulator({(0, 2): 11}, {}), StubPolicy()
    episode = play(simulator, policy, record_every=2)
    assert (episode.success, episode.steps, episode.queries) == (True, 11, 2)
    assert len(episode.frames) == 5
    assert episode.renders == 2


def test_jerk_is_the_mean_second_difference_of_the_motion() -> None:
    actions = np.zeros((5, 7))
    actions[:, 0] = [0, 1, 0, 1, 0]
    actions[:, 6] = [1, -1, 1, -1, 1]
    assert action_jerk(actions) == pytest.approx(2.0)
    actions[:, 0] = np.arange(5)
    assert action_jerk(actions) == 0.0
    assert action_jerk(actions[:2]) == 0.0


def test_the_gripper_switches_and_seams_of_actions_by_hand() -> None:
    actions = np.zeros((7, 7))
    actions[:, 0] = [0, 0, 0, 3, 3, 3, 0]
    actions[:, 1] = [0, 0, 0, 4, 4, 4, 0]
    actions[:, 6] = [-1, -1, 1, 1, 0.5, -1, -1]
    assert gripper_switches(actions) == 2
    # Chunks of three begin at steps 3 and 6, each 5 away from the action before.
    assert seam_jump(actions, 3) == 5.0
    assert seam_jump(actions[:4], 2) == 0.0
    assert seam_jump(actions[:3], 3) is None
