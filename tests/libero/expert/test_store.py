"""The expert's skills on doors and in shared, narrow or covered places. Oracles: closed forms, scipy's
rotations, the stub's own physics."""

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
from gr00t.libero.expert.fixtures import turn_about
from gr00t.libero.expert.grasps import grasps
from gr00t.libero.expert.motion import Skill
from gr00t.libero.expert.scene import Boxes, Joint
from gr00t.libero.expert.store import (
    beside,
    is_flat,
    pick_for,
    put_onto,
    roomiest,
    route,
    share,
    turn_to_fit,
)
from tests.libero.expert.stub_scene import StubScene, bowl, box, joined
from tests.libero.expert.test_fixtures import region, run, turned

Array = NDArray[np.float64]
UP = np.array([0.0, 0.0, 1.0])
NOTHING = Boxes(np.empty((0, 3)), np.empty((0, 3, 3)), np.empty((0, 3)))

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


def test_an_object_below_an_opening_drawer_is_dragged_aside() -> None:
    shadow = box((0.2, 0.0, 0.3), (0.1, 0.1, 0.03))  # from x = 0.1 on
    start = np.array([0.07, 0.0])
    place = beside(start, 0.05, 0.02, NOTHING, shadow)
    assert place is not None
    np.testing.assert_allclose(place, [0.04, 0.0], atol=1e-9)
    assert beside(np.array([0.03, 0.0]), 0.05, 0.02, NOTHING, shadow) is None, "well where it is"
    # A box to the left: another way, not closer to it than the object's radius.
    left = box((0.0, 0.0, 0.02), (0.01, 0.03, 0.02))
    place = beside(start, 0.05, 0.02, left, shadow)
    assert place is not None
    assert left.distances(np.array([[*place, 0.02]]))[0] >= 0.05
    assert shadow.distances(np.array([[*place, 0.3]]))[0] >= 0.06
    assert beside(start, 0.05, 0.02, box((0.05, 0.0, 0.02), (0.5, 0.5, 0.02)), shadow) is not None


def test_a_plate_is_pushed_around_what_is_in_its_way() -> None:
    start, goal = np.array([0.05, -0.02]), region((-0.05, 0.21, 0.0), (0.04, 0.04, 0.007))
    straight = route(start, goal, 0.07, NOTHING)
    np.testing.assert_allclose(straight[0], start)
    assert (np.abs(straight[1] - goal.center[:2]) <= 0.6 * 0.04 + 1e-9).all()
    cheese = box((-0.05, 0.13, 0.01), (0.04, 0.02, 0.01))
    corner, end = route(start, goal, 0.07, cheese)
    way = np.concatenate([np.linspace(start, corner, 50), np.linspace(corner, end, 50)])
    room = cheese.distances(np.column_stack([way, np.full(100, 0.015)])).min()
    direct = np.linspace(start, goal.center[:2], 50)
    before = cheese.distances(np.column_stack([direct, np.full(50, 0.015)])).min()
    # Measured: 0.059 of the 0.07 that it would take, against a collision straight ahead.
    assert before == 0.0
    assert room > 0.055
    assert (np.abs(end - goal.center[:2]) < 0.04).all()


def test_only_what_is_low_and_wide_is_pushed() -> None:
    plate = bowl((0.1, 0.05, 0.0), 0.065, 0.03)
    assert is_flat(plate.corners())
    assert not is_flat(bowl((0.1, 0.05, 0.0), 0.065, 0.05).corners())
    assert not is_flat(box((0.1, 0.05, 0.01), (0.04, 0.02, 0.01)).corners())
    place = region((-0.1, -0.05, 0.0), (0.04, 0.04, 0.007))
    scene = StubScene({"plate": plate}, regions={"place": place})
    highest = 0.0

    def watched() -> Skill:
        nonlocal highest
        skill = put_onto(scene, "plate", "place")
        while True:
            try:
                yield next(skill)
            except StopIteration as end:
                return bool(end.value)
            highest = max(highest, float(scene.corners("plate")[:, 2].min()))

    run(scene, watched())
    away = scene.object_position("plate")[:2] - place.center[:2]
    assert (np.abs(away) < 0.04).all()
    assert highest < 0.012, "it stays on the table"


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
    done, _ = run(scene, pick_for(scene, "bowl", goal))
    assert done is True
    held = scene.hand[1] - scene.object_position("bowl")[1]
    assert held < comfortable - 0.015
