"""The expert moves things along the table. Oracles: closed forms, the stub's own physics."""

from __future__ import annotations

import numpy as np

from gr00t.libero.expert.dragging import beside, is_flat, route
from gr00t.libero.expert.motion import Skill
from gr00t.libero.expert.putting import put_onto
from gr00t.libero.expert.scene import Boxes
from tests.libero.expert.stub_scene import StubScene, bowl, box, play
from tests.libero.expert.test_fixtures import region

NOTHING = Boxes(np.empty((0, 3)), np.empty((0, 3, 3)), np.empty((0, 3)))


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

    play(scene, watched())
    away = scene.object_position("plate")[:2] - place.center[:2]
    assert (np.abs(away) < 0.04).all()
    assert highest < 0.012, "it stays on the table"
