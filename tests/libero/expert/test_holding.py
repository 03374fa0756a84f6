"""The expert takes over with anything in the hand. Oracle: the stub's physics, and where things are then."""

from __future__ import annotations

import numpy as np
import pytest

from gr00t.libero.expert.expert import ScriptedExpert
from gr00t.libero.expert.holding import begins_to_grasp, bottom_above_support, free_hand, free_place, release
from gr00t.libero.expert.motion import CLOSE, OPEN
from tests.libero.expert.stub_scene import BASKET, CAN, StubScene, box, play

GOAL = ["in", "can", "basket"]
OTHER = box((0.1, -0.2, 0.03), (0.02, 0.03, 0.03))


def world(held: str | None, lifted: float = 0.0) -> StubScene:
    """A can and another box on the floor; one of them in the hand, raised by so much."""
    scene = StubScene({"can": CAN, "other": OTHER}, {"basket": BASKET}, [GOAL])
    if held is not None:
        scene.hand = scene.object_position(held)
        scene.opening, scene.held = 0.0, held
        scene.execute(np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, CLOSE]))
        scene.hand = scene.hand + np.array([0.0, 0.0, lifted])
        scene._shift(held, np.array([0.0, 0.0, lifted]))
    return scene


def solve(scene: StubScene, limit: int = 150) -> list[float]:
    """The gripper commands of an expert made now, until the goal holds."""
    expert, grips = ScriptedExpert(scene), []
    while not scene.holds(GOAL) and len(grips) < limit:
        action = expert.act()
        grips.append(float(action[6]))
        scene.execute(action)
    assert scene.holds(GOAL)
    return grips


def test_the_right_object_is_kept_whether_it_stands_yet_or_hangs_already() -> None:
    for lifted in (0.0, 0.12):
        grips = solve(world("can", lifted))
        release = grips.index(OPEN)
        assert set(grips[release:]) == {OPEN}, "it is let go of once"
        assert set(grips[:release]) == {CLOSE}


def test_the_wrong_object_is_put_down_beside_everything_else_and_then_the_right_one_taken() -> None:
    scene = world("other", 0.1)
    # It hangs over the can: there is no room for it.
    scene._shift("other", np.array([0.0, 0.25, 0.0]))
    scene.hand = scene.object_position("other")
    solve(scene)
    assert scene.corners("other")[:, 2].min() == pytest.approx(0.0, abs=1e-9)
    away = np.abs(scene.object_position("other") - CAN.centers[0])[:2]
    assert away.max() > 0.05


def test_what_stands_is_let_go_of_where_it_is() -> None:
    scene = world("other")
    before = scene.object_position("other")
    worked, actions = play(scene, free_hand(scene))
    assert worked is True
    assert (actions[:, 6] == OPEN).all()
    np.testing.assert_allclose(scene.object_position("other"), before, atol=1e-9)
    assert play(scene, free_hand(scene))[1].size == 0, "an empty hand has nothing to put down"


def test_fingers_that_close_around_the_object_go_on_and_those_that_close_on_nothing_open() -> None:
    scene = world(None)
    scene.opening = 0.032
    scene.hand = scene.object_position("can")
    assert begins_to_grasp(scene, "can")
    assert solve(scene)[0] == CLOSE
    scene = world(None)
    scene.opening = 0.0
    scene.hand = scene.object_position("can") + np.array([0.06, 0.0, 0.0])
    assert not begins_to_grasp(scene, "can")
    assert solve(scene)[0] == OPEN


def test_open_fingers_that_are_over_the_object_go_straight_down() -> None:
    scene = world(None)
    scene.hand = scene.object_position("can") + np.array([0.01, 0.0, 0.09])
    assert ScriptedExpert(scene).act()[2] < -0.5
    scene.hand = scene.object_position("can") + np.array([0.06, 0.0, 0.01])
    assert ScriptedExpert(scene).act()[2] > 0.5, "from beside it rises first"


def test_an_object_at_its_goal_is_left_there() -> None:
    scene = world(None)
    scene._shift("can", np.array([*(BASKET.center - CAN.centers[0])[:2], 0.0]))
    expert = ScriptedExpert(scene)
    for _ in range(20):
        action = expert.act()
        assert action.tolist() == [0.0] * 6 + [OPEN]
        scene.execute(action)


def test_the_nearest_free_place_has_room_for_the_fingers() -> None:
    scene = world(None)
    np.testing.assert_allclose(free_place(scene, "other"), scene.object_position("other")[:2], atol=1e-12)
    scene = StubScene(
        {"low": box((0.0, 0.0, 0.05), (0.1, 0.1, 0.05)), "held": box((0.0, 0.0, 0.2), (0.03,) * 3)}
    )
    place = free_place(scene, "held")
    room = np.abs(place).max() - 0.1
    assert np.hypot(0.03, 0.03) + 0.03 <= room < np.hypot(0.03, 0.03) + 0.03 + 0.04
    assert bottom_above_support(scene, "held") == pytest.approx(0.07)


def test_fingers_leave_what_they_hold_before_they_are_raised() -> None:
    """Oracle: the opening at which a wide object is held, and 1.2 cm more."""
    scene = world("can")
    scene.opening = 0.0
    worked, actions = play(scene, release(scene))
    assert worked is True
    assert (actions[:, 6] == OPEN).all()
    assert not actions[:, :6].any()
    assert len(actions) == 6, "these fingers are quick"
    scene.opening, scene.is_stuck = 0.027, True
    assert len(play(scene, release(scene))[1]) == 12, "in time it gives up"
