"""The expert picks and places. Oracle: the physics of the stub, in which only what is really between the
fingers is lifted."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from gr00t.libero.expert import pick_place as expert_pick_place
from gr00t.libero.expert.arm import upright
from gr00t.libero.expert.grasps import Grasp, grasps
from gr00t.libero.expert.motion import (
    CLOSE,
    DOWN,
    OPEN,
    STAY,
    Action,
    about_z,
)
from gr00t.libero.expert.pick_place import pick, put_on
from gr00t.libero.expert.putting import put_inside
from gr00t.libero.expert.scene import Region, Scene
from tests.libero.expert.stub_scene import BASKET, CAN, StubScene, box, play


def test_a_tilted_hand_is_set_upright_without_turning_it() -> None:
    for yaw in (-1.5, -0.4, 0.0, 1.2):
        tilted = Rotation.from_euler("y", 0.1).as_matrix() @ about_z(yaw) @ DOWN
        # The tilt itself changes the heading of the fingers by its cosine only: below 0.005 rad.
        np.testing.assert_allclose(upright(tilted), about_z(yaw) @ DOWN, atol=0.005)


def closings(actions: NDArray[np.float64]) -> int:
    """How often the fingers closed around something; narrowing an opening ends with a command of 0."""
    starts = np.flatnonzero(np.diff(actions[:, 6], prepend=OPEN) > 0)
    return sum(actions[start, 6] == CLOSE and STAY not in actions[start : start + 9, 6] for start in starts)


def test_putting_in_and_on() -> None:
    for skill, goal in ((put_inside, "in"), (put_on, "on")):
        scene = StubScene({"can": CAN}, {"basket": BASKET})
        worked, _ = play(scene, skill(scene, "can", "basket"))
        assert worked is True
        assert scene.holds([goal, "can", "basket"])
        np.testing.assert_allclose(scene.object_position("can")[:2], BASKET.center[:2], atol=0.012)


def test_what_is_carried_passes_above_what_stands_on_its_way() -> None:
    wall = box((0.0, -0.05, 0.15), (0.2, 0.01, 0.15))
    for objects, clearance in (({"can": CAN}, 0.14), ({"can": CAN, "wall": wall}, 0.32)):
        scene = StubScene(objects, {"basket": BASKET}, fixed=("wall",))
        bottoms = []
        for action in put_inside(scene, "can", "basket"):
            scene.execute(action)
            if scene.held and abs(scene.object_position("can")[1] + 0.05) < 0.04:
                bottoms.append(scene.corners("can")[:, 2].min())
        assert len(bottoms) > 0
        assert clearance < min(bottoms) < clearance + 0.05


def test_a_slip_is_followed_by_another_grasp() -> None:
    scene = StubScene({"can": CAN})
    # The can slips in every step in which closed fingers are around it: closing and lifting are about ten.
    scene.slips = 10
    worked, actions = play(scene, pick(scene, "can"))
    assert worked is True
    assert scene.held == "can"
    assert closings(actions) == 2


def test_a_hand_that_is_pushed_aside_low_rises_before_it_takes_hold() -> None:
    scene = StubScene({"can": CAN})
    skill, low, after = pick(scene, "can"), None, []
    for action in skill:
        scene.execute(action)
        if low is None and action[6] != CLOSE and scene.hand[2] < 0.09:
            scene.hand = scene.hand + np.array([0.05, 0.0, 0.0])
            low = scene.hand[2]
        elif low is not None:
            after.append(scene.hand[2])
    assert scene.held == "can"
    assert low is not None
    assert max(after[:6]) > low + 0.02


def test_every_grasp_is_tried_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def fails(scene: Scene, name: str, grasp: Grasp) -> Iterator[Action]:
        tried.append(grasp)
        yield np.zeros(7)
        return False

    monkeypatch.setattr(expert_pick_place, "take", fails)
    scene = StubScene({"can": CAN})
    worked, _ = play(scene, pick(scene, "can"))
    assert worked is False
    assert len(tried) == expert_pick_place.PICK_ATTEMPTS
    ways = [(grasp.yaw, *grasp.position) for grasp in tried]
    assert ways[::2] == ways[1::2]
    assert len(set(ways)) == len(grasps(scene, "can")[:3])


def test_what_falls_over_meanwhile_is_no_longer_taken_as_it_stood() -> None:
    """The way to where it stood ends at once; from then on the hand heads for where it lies."""
    scene = StubScene({"can": CAN})
    skill = pick(scene, "can")
    scene.execute(next(skill))
    scene._shift("can", np.array([-0.3, 0.3, 0.0]))
    way = scene.object_position("can") - scene.hand
    assert next(skill)[:2] @ way[:2] > 0.0
    assert play(scene, skill)[0] is True


def test_what_is_lost_on_the_way_is_not_carried_on_to_the_goal() -> None:
    # Half a metre away: whoever does not notice goes there.
    basket = Region(np.array([-0.1, -0.5, 0.05]), np.eye(3), np.array([0.06, 0.06, 0.05]))
    scene = StubScene({"can": CAN}, {"basket": basket})
    lost_at, farthest = None, 0.0
    for action in put_inside(scene, "can", "basket"):
        scene.execute(action)
        if lost_at is None and scene.held and scene.hand[1] < -0.01:
            scene.held, scene.opening, lost_at = None, 0.0, scene.hand.copy()
            scene._shift("can", np.array([0.0, 0.0, -scene.corners("can")[:, 2].min()]))
        elif lost_at is not None:
            farthest = max(farthest, float(np.linalg.norm((scene.hand - lost_at)[:2])))
    assert lost_at is not None
    # Three steps, of at most 5 cm along each axis, until it is noticed.
    assert 0.0 < farthest < 3 * 0.05 * 1.5


def test_what_cannot_be_lifted_is_given_up_after_all_attempts() -> None:
    scene = StubScene({"can": CAN}, fixed=("can",))
    worked, actions = play(scene, pick(scene, "can"))
    assert worked is False
    assert closings(actions) == expert_pick_place.PICK_ATTEMPTS


def test_a_tall_object_is_lowered_until_its_origin_is_between_the_walls() -> None:
    """Oracle: LIBERO's predicate, which asks for the origin; the stub's is in the middle."""
    for half in (0.03, 0.06):
        can = box((0.1, 0.05, half), (0.02, 0.02, half))
        scene = StubScene({"can": can}, {"basket": BASKET})
        lowest = np.inf
        for action in put_inside(scene, "can", "basket"):
            if scene.held and abs(scene.object_position("can")[1] - BASKET.center[1]) < 0.02:
                lowest = min(lowest, float(scene.object_position("can")[2]))
            scene.execute(action)
        assert lowest < BASKET.top
