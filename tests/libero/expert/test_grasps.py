"""Where the expert takes hold. Oracles: closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from gr00t.libero.expert.grasps import Grasp, grasps, is_hollow
from gr00t.libero.expert.motion import (
    about_z,
)
from gr00t.libero.expert.scene import Boxes
from tests.libero.expert.stub_scene import CAN, StubScene, bowl, box, joined


def fingers_of(grasp: Grasp) -> NDArray[np.float64]:
    """Where the open finger tips are, (2, 3)."""
    return grasp.position + np.array([[-1.0], [1.0]]) * grasp.rotation[:, 0] * grasp.opening


def test_a_narrow_box_is_taken_across_whatever_its_angle() -> None:
    for yaw in (0.0, 0.5, -1.2):
        scene = StubScene({"book": box((0.1, 0.0, 0.03), (0.1, 0.02, 0.03), yaw)})
        best = grasps(scene, "book")[0]
        across = about_z(yaw)[:, 1]
        # Angles are 7.5 degrees apart; of those that are almost as narrow, the smallest turn wins.
        assert abs(float(best.rotation[:, 0] @ across)) > np.cos(np.radians(8))
        np.testing.assert_allclose(best.position[:2], [0.1, 0.0], atol=0.003)
        assert scene.boxes("book").distances(best.position[None])[0] == 0.0
        assert scene.boxes("book").distances(fingers_of(best)).min() > 0.01


def test_the_arm_turns_the_same_way_to_whatever_lies_nearly_across() -> None:
    """Oracle: 90 degrees, to which the object's own angle is added, to the nearest 7.5 and narrow enough."""
    for tilt in np.linspace(-0.15, 0.15, 13):
        for y in (-0.09, 0.09):
            bottle = box((0.1, 0.0, 0.06), (0.018, 0.026, 0.06), tilt)
            can = box((0.1, y, 0.05), (0.03, 0.03, 0.05))
            for grasp in grasps(StubScene({"bottle": bottle, "can": can}), "bottle"):
                assert np.degrees(grasp.yaw) == pytest.approx(90 + np.degrees(tilt), abs=12)


def gabled(yaw: float) -> Boxes:
    """A carton whose roof is as wide as it is along its ridge, and narrower across."""
    roof = box((0.1, 0.0, 0.12), (0.024, 0.0263, 0.012), yaw)
    return joined(box((0.1, 0.0, 0.053), (0.0262, 0.0262, 0.053), yaw), roof)


def test_a_carton_is_held_where_no_roof_hooks_on_opening_fingers() -> None:
    """Oracle: the carton's own axes; square as it is, only its roof tells them apart."""
    for yaw, across in ((0.0, 90.0), (np.pi / 2, 0.0)):
        for grasp in grasps(StubScene({"milk": gabled(yaw)}), "milk"):
            assert np.degrees(grasp.yaw) == pytest.approx(across, abs=1e-6)


def test_the_palm_stays_off_a_tall_object_that_is_taken_across_its_narrowest_width() -> None:
    """Oracle: a bottle's own axis, and its top at 0.12; the palm is 4 cm above the finger tips."""
    best = grasps(StubScene({"bottle": box((0.1, 0.0, 0.06), (0.018, 0.026, 0.06))}), "bottle")[0]
    assert np.degrees(best.yaw) == pytest.approx(90.0, abs=1e-6)
    assert 0.12 - best.position[2] == pytest.approx(0.033, abs=1e-9)


def test_a_grasp_keeps_away_from_what_stands_beside() -> None:
    can = box((0.0, 0.0, 0.05), (0.03, 0.03, 0.05))
    alone = grasps(StubScene({"can": can}), "can")[0]
    assert abs(alone.yaw) < 0.01
    # A wall where the finger would go: the fingers close along the other axis, or open less.
    scene = StubScene({"can": can, "wall": box((0.0, 0.07, 0.1), (0.05, 0.01, 0.1))})
    best = grasps(scene, "can")[0]
    assert best.room > 0.0
    assert scene.obstacles(excluding="can").distances(fingers_of(best)).min() > 0.01
    assert abs(best.yaw) > 1.0


def test_a_bowl_is_hollow_and_taken_by_its_rim() -> None:
    scene = StubScene({"bowl": bowl((0.1, 0.1, 0.0), 0.06, 0.05), "can": CAN})
    assert is_hollow(scene.boxes("bowl"))
    assert not is_hollow(scene.boxes("can"))
    # A mug is narrow enough to be taken across, but its walls are all that there is to hold.
    mug = StubScene({"mug": bowl((0.1, 0.1, 0.0), 0.03, 0.08)})
    for grasp in grasps(mug, "mug"):
        assert mug.boxes("mug").distances(grasp.position[None])[0] < 0.005
    for grasp in grasps(scene, "bowl"):
        inner, outer = sorted(np.linalg.norm(fingers_of(grasp)[:, :2] - [0.1, 0.1], axis=1))
        assert inner < 0.055
        assert outer > 0.065


def test_of_a_far_bowl_the_near_side_of_the_rim_is_taken() -> None:
    near, far = (
        grasps(StubScene({"bowl": bowl((x, 0.0, 0.0), 0.06, 0.05)}), "bowl")[0].position[0] - x
        for x in (0.0, 0.3)
    )
    # At x = 0.3 the bowl is 0.8 m from the stub's arm, whose easy reach ends at 0.68.
    assert abs(near) < 0.03
    assert far < -0.04


def test_candidates_differ_and_come_in_the_same_order() -> None:
    scene = StubScene({"book": box((0.1, 0.0, 0.06), (0.1, 0.02, 0.06), 0.2)})
    first, second = grasps(scene, "book"), grasps(scene, "book")
    assert len(first) == 4
    assert [(g.yaw, g.opening, *g.position) for g in first] == [
        (g.yaw, g.opening, *g.position) for g in second
    ]
    for index, one in enumerate(first):
        for other in first[:index]:
            apart = np.linalg.norm(one.position - other.position)
            assert apart > 0.011 or abs(one.yaw - other.yaw) > 0.5
