"""The expert's motions in a world of boxes. Oracles: closed forms, scipy's rotations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from gr00t.libero.expert import motion as expert_motion
from gr00t.libero.expert.motion import (
    CLOSE,
    DOWN,
    OPEN,
    about_z,
    hold,
    lift,
    move,
    rotation_vector,
)
from tests.libero.expert.stub_scene import StubScene, play


def test_rotation_vectors_are_scipys() -> None:
    random = Rotation.random(200, random_state=1)
    for rotation in [*random, Rotation.from_rotvec([1e-9, 0, 0]), Rotation.from_rotvec([0, 0.5, 0])]:
        ours, theirs = rotation_vector(rotation.as_matrix()), rotation.as_rotvec()
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    for axis in np.eye(3):
        half_turn = rotation_vector(Rotation.from_rotvec(np.pi * axis).as_matrix())
        # Both directions of the axis are right.
        np.testing.assert_allclose(np.abs(half_turn), np.pi * axis, atol=1e-6)
    np.testing.assert_allclose(about_z(0.3), Rotation.from_euler("z", 0.3).as_matrix(), atol=1e-12)


def test_a_motion_arrives_and_is_gentle_where_told() -> None:
    scene = StubScene({})
    target, rotation = np.array([0.2, -0.1, 0.05]), about_z(0.8) @ DOWN
    arrived, actions = play(scene, move(scene, target, rotation, gripper=CLOSE, max_speed=0.3))
    assert arrived is True
    assert np.linalg.norm(scene.hand - target) < 0.006
    assert np.linalg.norm(rotation_vector(rotation @ scene.turned.T)) < 0.06
    assert (actions[:, 6] == CLOSE).all()
    assert np.abs(actions[0, 2]) == 1.0, "far above, it may hurry"
    assert np.abs(actions[-3:, 2]).max() <= 0.3


def test_a_motion_that_meets_something_gives_up() -> None:
    scene = StubScene({})
    scene.is_stuck = True
    arrived, actions = play(scene, move(scene, np.array([1.0, 0.0, 0.3]), gripper=OPEN))
    assert arrived is False
    assert len(actions) == expert_motion._STALL_STEPS


def test_lifting_never_lowers_and_holding_takes_its_steps() -> None:
    scene = StubScene({})
    play(scene, lift(scene, 0.1, gripper=OPEN))
    assert scene.hand[2] == 0.3
    play(scene, lift(scene, 0.5, gripper=OPEN))
    assert scene.hand[2] > 0.48
    done, actions = play(scene, hold(scene, CLOSE, 7))
    assert done is True
    assert actions.tolist() == [[0, 0, 0, 0, 0, 0, CLOSE]] * 7
    anchor = scene.hand.copy()
    skill = hold(scene, CLOSE, 7, at=anchor)
    scene.execute(next(skill))
    scene.hand += [0.01, 0.0, 0.0]
    play(scene, skill)
    np.testing.assert_allclose(scene.hand, anchor, atol=1e-4)


def test_a_hand_beside_its_target_comes_down_through_a_funnel() -> None:
    target = np.array([0.1, 0.05, 0.02])
    scene = StubScene({})
    heights = {}
    for beside in (0.0, 0.008, 0.019, 0.03, 0.1):
        scene.hand = target + np.array([0.6 * beside, -0.8 * beside, 0.04])
        way = next(move(scene, target, gripper=OPEN, funnel=0.1))[:3]
        # 14 times the way that is left: 4 cm down, and up again by the funnel's share of 10 cm.
        heights[beside] = way[2] / 14 + 0.04
        assert np.allclose(way[:2], np.clip(14 * beside * np.array([-0.6, 0.8]), -1, 1))
    assert heights == pytest.approx({0.0: 0.0, 0.008: 0.0, 0.019: 0.05, 0.03: 0.1, 0.1: 0.1})


def test_a_tilted_hand_is_set_upright_while_it_rises_and_a_level_one_is_not() -> None:
    """Oracle: the tilt itself; a hand at a handle is level on purpose."""
    scene = StubScene({})
    scene.turned = Rotation.from_euler("y", 0.3).as_matrix() @ DOWN
    play(scene, lift(scene, 0.5, gripper=OPEN))
    assert scene.turned[2, 2] < -np.cos(0.06)
    scene = StubScene({})
    scene.turned = level = Rotation.from_euler("y", 1.3).as_matrix() @ DOWN
    play(scene, lift(scene, 0.5, gripper=OPEN))
    np.testing.assert_allclose(scene.turned, level, atol=1e-12)
