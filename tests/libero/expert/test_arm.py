"""Where the arm is stretched. Oracle: the Panda's lengths, 0.316 and 0.384 m, its elbow 0.0825 m aside."""

from __future__ import annotations

import numpy as np
import pytest

from gr00t.libero.expert.arm import lean, unfold
from gr00t.libero.expert.motion import DOWN, OPEN, move
from tests.libero.expert.stub_scene import StubScene, play

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
