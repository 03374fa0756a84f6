"""The expert puts things into shared or narrow places. Oracles: closed forms, the physics of the stub."""

from __future__ import annotations

import numpy as np
import pytest

from gr00t.libero.expert.arm import turn_about
from gr00t.libero.expert.grasps import grasps
from gr00t.libero.expert.putting import pick_for, roomiest, share, turn_to_fit
from tests.libero.expert.stub_scene import StubScene, bowl, box, joined, play
from tests.libero.expert.test_fixtures import region

UP = np.array([0.0, 0.0, 1.0])


def test_a_book_is_turned_as_little_as_its_slot_asks() -> None:
    slot = region((0.0, 0.0, 0.1), (0.03, 0.065, 0.06))
    book = box((0.4, 0.2, 0.07), (0.015, 0.05, 0.07), 1.0).corners()
    turn = turn_to_fit(book, slot)
    assert -1.1 < turn < -0.6
    half = np.ptp(book[:, :2] @ turn_about(UP, turn)[:2, :2].T, axis=0) / 2
    assert (half <= slot.extent[:2]).all()
    assert turn_to_fit(box((0.4, 0.2, 0.07), (0.015, 0.05, 0.07)).corners(), slot) == 0.0
    # Nothing makes a box of 20 cm fit: it is not turned in vain.
    assert turn_to_fit(box((0.0, 0.0, 0.1), (0.1, 0.1, 0.1)).corners(), slot) == 0.0


def test_two_pots_stand_side_by_side_and_one_in_the_middle() -> None:
    stove = region((0.5, -0.2, 0.9), (0.075, 0.075, 0.0025))
    pot = np.array([0.04, 0.075, 0.076])
    one, two = (share(stove, [pot, pot], index).xy for index in (0, 1))
    np.testing.assert_allclose([one[1], two[1]], [-0.2, -0.2])
    # 8 cm wide and 1.5 cm apart, in a region of 15 cm that counts their middles.
    np.testing.assert_allclose([one[0], two[0]], [0.5 - 0.0475, 0.5 + 0.0475])
    np.testing.assert_allclose(share(stove, [pot], 0).xy, [0.5, -0.2])


def test_a_bowl_goes_where_the_cabinet_does_not_hang_over_its_drawer() -> None:
    inside = region((0.0, 0.0, 0.05), (0.1, 0.08, 0.03))
    floor = box((0.0, 0.0, 0.022), (0.1, 0.08, 0.002))
    walls = [box((x, 0.0, 0.05), (0.002, 0.08, 0.03)) for x in (-0.1, 0.1)]
    walls += [box((0.0, y, 0.05), (0.1, 0.002, 0.03)) for y in (-0.08, 0.08)]
    cabinet = box((0.0, 0.2, 0.2), (0.12, 0.17, 0.06))  # over the drawer from y = 0.03 on
    goal = roomiest(inside, joined(floor, *walls))
    assert (np.abs(goal.xy) < 0.01).all()
    np.testing.assert_allclose(
        roomiest(inside, joined(floor, *walls, cabinet)).xy, [0.0, (0.03 - 0.078) / 2], atol=0.008
    )
    assert (goal.surface, goal.top) == pytest.approx((0.02, 0.08))


def test_a_lid_is_held_by_its_knob_and_a_bowl_by_its_rim() -> None:
    pot = joined(box((0.1, 0.05, 0.06), (0.04, 0.045, 0.06)), box((0.1, 0.06, 0.13), (0.006, 0.005, 0.011)))
    scene = StubScene({"pot": pot, "bowl": bowl((-0.1, 0.0, 0.0), 0.05, 0.05)})
    best = grasps(scene, "pot")[0]
    np.testing.assert_allclose(best.position[:2], [0.1, 0.06], atol=1e-9)
    # Above the lid at 0.12, below the knob's top at 0.141.
    assert 0.12 < best.position[2] < 0.141
    rim = grasps(scene, "bowl")[0].position[:2] - [-0.1, 0.0]
    assert np.linalg.norm(rim) == pytest.approx(0.05, abs=0.006)


def test_a_bowl_for_a_drawer_is_held_where_the_hand_has_room_to_let_go() -> None:
    """A cabinet stands behind the goal: the bowl is held by its front, not as it would be elsewhere."""
    inside = region((0.0, 0.22, 0.02), (0.08, 0.03, 0.02))
    objects = {
        "bowl": bowl((0.0, -0.1, 0.0), 0.05, 0.05),
        "cabinet": box((0.0, 0.4, 0.15), (0.2, 0.12, 0.15)),
    }
    scene = StubScene(objects, regions={"place": inside}, fixed=("cabinet",))
    goal = roomiest(inside, scene.obstacles(excluding="bowl"))
    comfortable = grasps(scene, "bowl")[0].position[1] + 0.1
    done, _ = play(scene, pick_for(scene, "bowl", goal))
    assert done is True
    held = scene.hand[1] - scene.object_position("bowl")[1]
    assert held < comfortable - 0.015
