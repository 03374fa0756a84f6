"""The expert's skills on doors and cups. Oracles: closed forms, scipy's rotations."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from gr00t.libero.expert.doors import (
    between_walls,
    handle_of_cup,
    has_roof,
    inwards_of,
    outwards_of,
    panel_of,
    push_point,
)
from gr00t.libero.expert.scene import Boxes, Joint
from tests.libero.expert.stub_scene import bowl, box, joined
from tests.libero.expert.test_fixtures import region, turned

Array = NDArray[np.float64]
UP = np.array([0.0, 0.0, 1.0])

# A door whose hinge stands at (-0.15, 0, 0.1). Shut it reaches to x = 0.11 and faces -y; it opens towards -y.
HINGE = np.array([-0.15, 0.0, 0.1])
DOOR = joined(
    box((-0.02, -0.013, 0.1), (0.13, 0.012, 0.09)),
    box((0.09, -0.054, 0.1), (0.01, 0.01, 0.065)),
)


def door(position: float) -> Joint:
    return Joint(False, UP, HINGE, position, -2.094, turned(DOOR, HINGE, position))


@pytest.mark.parametrize("position", [-0.001, -0.7, -1.57, -2.0])
def test_a_door_faces_outwards_and_its_opening_inwards_however_far_it_is_open(position: float) -> None:
    joint = door(position)
    expected = Rotation.from_euler("z", position).apply([0.0, -1.0, 0.0])
    np.testing.assert_allclose(outwards_of(joint, panel_of(joint)), expected, atol=1e-9)
    behind = region((-0.02, 0.1, 0.1), (0.1, 0.08, 0.08))
    np.testing.assert_allclose(inwards_of(joint, behind), [0.0, 1.0, 0.0], atol=1e-9)


@pytest.mark.parametrize("position", [-0.001, -0.7, -2.0])
def test_a_door_is_pushed_beside_its_face_short_of_its_handle(position: float) -> None:
    joint = door(position)
    for side in (1.0, -1.0):
        for ahead in (position, -1.0):
            point = push_point(joint, ahead, side, 0.02, 0.15)
            back = Rotation.from_euler("z", -ahead).apply(point - HINGE)
            # In the door's own frame: 72 % of 0.26 along; half a thickness, 15 mm and 20 mm off its middle.
            expected = [0.72 * 2 * 0.13, -0.013 - side * (0.012 + 0.015 + 0.02), 0.05]
            np.testing.assert_allclose(back, expected, atol=1e-9)


def test_an_opening_is_entered_half_way_between_its_walls_above_its_floor() -> None:
    oven = joined(
        box((-0.2, 0.1, 0.1), (0.01, 0.1, 0.1)),
        box((0.1, 0.1, 0.1), (0.05, 0.1, 0.1)),
        box((0.0, 0.2, 0.1), (0.2, 0.01, 0.1)),
        box((0.0, 0.1, 0.01), (0.2, 0.1, 0.01)),
        box((0.0, 0.1, 0.19), (0.2, 0.1, 0.01)),
    )
    goal, floor, ceiling = between_walls(np.array([0.0, 0.03, 0.1]), np.array([0.0, 1.0, 0.0]), oven)
    # The walls' inner sides are at x = -0.19 and 0.05.
    np.testing.assert_allclose(goal, [-0.07, 0.03, 0.1], atol=0.003)
    assert (floor, ceiling) == pytest.approx((0.02, 0.18), abs=0.0015)
    assert has_roof(region((0.0, 0.1, 0.1), (0.1, 0.08, 0.07)), oven)
    assert not has_roof(region((0.0, 0.1, 0.1), (0.1, 0.08, 0.07)), Boxes(*_without(oven, 4)))


def _without(boxes: Boxes, index: int) -> tuple[Array, Array, Array]:
    keep = np.arange(len(boxes)) != index
    return boxes.centers[keep], boxes.rotations[keep], boxes.halves[keep]


def test_a_cups_handle_is_what_is_furthest_from_its_ring() -> None:
    angle = 2.2
    out = np.array([np.cos(angle), np.sin(angle), 0.0])
    bar = box((0.3 + 0.08 * out[0], 0.1 + 0.08 * out[1], 0.05), (0.004, 0.008, 0.03), angle)
    center, towards = handle_of_cup(joined(bowl((0.3, 0.1, 0.0), 0.04, 0.09), bar))
    np.testing.assert_allclose(center, bar.centers[0])
    np.testing.assert_allclose(towards, -out, atol=0.05)
