"""The expert's motions in a world of boxes, and where its arm is stretched.

Oracles: closed forms, scipy's rotations, the Panda's lengths: 0.316 and 0.384 m, its elbow 0.0825 m aside.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from gr00t.libero.expert import motion as expert_motion
from gr00t.libero.expert.arm import lean, unfold
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


# With the elbow straight, and at its limit of -0.07 rad, where it has gone past straight.
UPPER, LOWER = np.hypot(0.316, 0.0825), np.hypot(0.384, 0.0825)
LONGEST = UPPER + LOWER


def stretch(scene: StubScene, tip: np.ndarray, rotation: np.ndarray) -> float:
    """From shoulder to wrist, metres, with the hand (3, 3) at `tip` (3,)."""
    outwards = (tip - scene.base_position) * [1.0, 1.0, 0.0]
    outwards /= np.linalg.norm(outwards)
    # The wrist lies towards the foot, across the direction that the hand points in.
    across = outwards - rotation[:, 2] * (outwards @ rotation[:, 2])
    wrist = tip - 0.204 * rotation[:, 2] - 0.088 * across / np.linalg.norm(across)
    return float(np.linalg.norm(wrist - scene.base_position - [0.0, 0.0, 0.333]))


def test_a_hand_far_out_leans_just_so_much_that_the_arm_is_not_stretched() -> None:
    scene = StubScene({})
    for tip in np.array([[0.33, 0.0, 0.1], [0.2, -0.45, 0.1], [0.3, 0.1, 0.3]]):
        rotation = lean(scene, tip, DOWN)
        assert stretch(scene, tip, DOWN) > 0.7
        # Leans come in steps of a hundredth of a radian.
        assert 0.67 < stretch(scene, tip, rotation) <= 0.68 + 1e-9 < LONGEST
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
        outwards = (tip - scene.base_position)[:2]
        assert rotation[:2, 2] @ outwards > 0.0, "finger tips further out than the wrist"
        aside = np.array([-outwards[1], outwards[0]])
        assert rotation[:2, 2] @ aside == pytest.approx(0.0, abs=1e-12)


def test_near_by_and_when_it_slopes_on_purpose_a_hand_is_left_as_it_is() -> None:
    scene = StubScene({})
    np.testing.assert_array_equal(lean(scene, np.array([0.2, 0.0, 0.1]), DOWN), DOWN)
    sloping = np.array([[0.0, 0.8, 0.6], [1.0, 0.0, 0.0], [0.0, 0.6, -0.8]])
    np.testing.assert_array_equal(lean(scene, np.array([0.4, 0.0, 0.1]), sloping), sloping)


def test_an_elbow_that_has_snapped_over_is_bent_back_before_anything_else() -> None:
    scene = StubScene({})
    scene.bend = -0.07
    skill = move(scene, np.array([-0.2, 0.0, 0.3]), DOWN, gripper=OPEN)
    first = next(skill)
    # Outwards, although the way leads inwards, with the finger tips turning in towards the foot.
    assert first[0] == pytest.approx(1.0)
    turning = np.cross(first[3:6], -np.array([0.0, 0.0, 1.0]))
    assert turning[0] < -0.5
    scene.bend = -0.59
    assert next(skill)[0] == pytest.approx(1.0), "once begun it goes on until the elbow is well bent"
    scene.bend = -0.61
    assert next(skill)[0] < 0.0
    assert unfold(scene) is None


def test_an_elbow_that_does_not_come_back_is_given_up() -> None:
    scene = StubScene({})
    scene.bend = -0.07
    worked, actions = play(scene, move(scene, np.array([-0.2, 0.0, 0.3]), gripper=OPEN, max_steps=3))
    assert worked is False
    assert len(actions) == 3 * 25 + 3
