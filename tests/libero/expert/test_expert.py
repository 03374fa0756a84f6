"""The expert's geometry and skills, in a world of boxes. Oracles: closed forms, scipy's rotations, the stub's
own physics, in which only what is really between the fingers is lifted."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from gr00t.libero.expert import expert
from gr00t.libero.expert import motion as expert_motion
from gr00t.libero.expert import pick_place as expert_pick_place
from gr00t.libero.expert.expert import disturbed, plan
from gr00t.libero.expert.grasps import Grasp, grasps, is_hollow
from gr00t.libero.expert.motion import (
    CLOSE,
    DOWN,
    OPEN,
    STAY,
    Action,
    Skill,
    about_z,
    hold,
    lift,
    move,
    rotation_vector,
)
from gr00t.libero.expert.pick_place import pick, put_on, upright
from gr00t.libero.expert.putting import put_inside
from gr00t.libero.expert.scene import Boxes, Region, Scene
from tests.libero.expert.stub_scene import StubScene, bowl, box, joined

CAN = box((0.1, 0.05, 0.05), (0.03, 0.03, 0.05))
BASKET = Region(np.array([-0.1, -0.15, 0.05]), np.eye(3), np.array([0.06, 0.06, 0.05]))


def play(scene: StubScene, skill: Skill, limit: int = 1000) -> tuple[bool | None, NDArray[np.float64]]:
    """Execute a skill to its end, or for `limit` steps; what it returned, and its actions (N, 7)."""
    actions = []
    for _ in range(limit):
        try:
            action = next(skill)
        except StopIteration as end:
            return end.value, np.reshape(actions, (-1, 7))
        scene.execute(action)
        actions.append(action)
    return None, np.reshape(actions, (-1, 7))


def test_corners_of_a_turned_box_in_closed_form() -> None:
    corners = box((1.0, 2.0, 3.0), (1.0, 1.0, 0.5), np.pi / 4).corners()
    assert corners.shape == (8, 3)
    # A square of side 2 on its tip reaches sqrt(2) along both axes.
    np.testing.assert_allclose(np.ptp(corners, axis=0), [2 * np.sqrt(2), 2 * np.sqrt(2), 1.0], atol=1e-12)
    np.testing.assert_allclose(corners.mean(axis=0), [1, 2, 3], atol=1e-12)


def test_distances_to_boxes_in_closed_form() -> None:
    cube = box((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    tipped = box((5.0, 0.0, 0.0), (1.0, 1.0, 1.0), np.pi / 4)
    points = np.array([[0.5, 0, 0], [0, 3, 0], [0, 3, 3], [-2, 2, 2], [5, 2, 0], [3.0, 0, 0]], dtype=float)
    expected = [0, 2, 2 * np.sqrt(2), np.sqrt(3), 2 - np.sqrt(2), 2 - np.sqrt(2)]
    np.testing.assert_allclose(joined(cube, tipped).distances(points), expected, atol=1e-12)
    nothing = Boxes(np.empty((0, 3)), np.empty((0, 3, 3)), np.empty((0, 3)))
    assert np.isinf(nothing.distances(points)).all()


def test_the_highest_box_on_the_way_is_one_that_is_near_it() -> None:
    low, high = box((0.5, 0.1, 0.1), (0.05, 0.05, 0.1)), box((0.5, 0.5, 0.4), (0.05, 0.05, 0.4), np.pi / 4)
    boxes, start, end = joined(low, high), np.array([0.0, 0.0]), np.array([1.0, 0.0])
    # The sides nearest to the way: at y = 0.05, and at 0.5 - 0.05 sqrt(2) = 0.429.
    assert boxes.highest_along(start, end, 0.06) == pytest.approx(0.2)
    assert boxes.highest_along(start, end, 0.42) == pytest.approx(0.2)
    assert boxes.highest_along(start, end, 0.44) == pytest.approx(0.8)
    assert boxes.highest_along(start, end, 0.04) == -np.inf
    assert boxes.highest_along(end, np.array([2.0, 0.0]), 0.06) == -np.inf


def test_a_region_on_its_side_is_as_high_as_it_is_long() -> None:
    on_its_side = Rotation.from_euler("y", 90, degrees=True).as_matrix()
    region = Region(np.array([0.0, 0.0, 1.0]), on_its_side, np.array([0.3, 0.2, 0.1]))
    np.testing.assert_allclose(region.extent, [0.1, 0.2, 0.3], atol=1e-12)
    assert (region.bottom, region.top) == pytest.approx((0.7, 1.3))


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


def test_a_tilted_hand_is_set_upright_without_turning_it() -> None:
    for yaw in (-1.5, -0.4, 0.0, 1.2):
        tilted = Rotation.from_euler("y", 0.1).as_matrix() @ about_z(yaw) @ DOWN
        # The tilt itself changes the heading of the fingers by its cosine only: below 0.005 rad.
        np.testing.assert_allclose(upright(tilted), about_z(yaw) @ DOWN, atol=0.005)


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


def closings(actions: NDArray[np.float64]) -> int:
    """How often the fingers closed around something; narrowing an opening ends with a command of 0."""
    starts = np.flatnonzero(np.diff(actions[:, 6], prepend=OPEN) > 0)
    return sum(actions[start, 6] == CLOSE and STAY not in actions[start : start + 9, 6] for start in starts)


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


def test_every_attempt_tries_another_grasp(monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert len({(grasp.yaw, *grasp.position) for grasp in tried}) == len(grasps(scene, "can"))


def test_what_cannot_be_lifted_is_given_up_after_all_attempts() -> None:
    scene = StubScene({"can": CAN}, fixed=("can",))
    worked, actions = play(scene, pick(scene, "can"))
    assert worked is False
    assert closings(actions) == expert_pick_place.PICK_ATTEMPTS


def test_the_plan_fulfils_the_open_goals_in_order() -> None:
    goals = [["in", "can", "basket"], ["on", "box", "mat"], ["on", "done", "mat"], ["sing", "can", "basket"]]
    scene = StubScene(
        {
            "can": CAN,
            "box": box((0.1, -0.1, 0.02), (0.03, 0.03, 0.02)),
            "done": box((-0.1, 0.17, 0.02), (0.02, 0.02, 0.02)),
        },
        {
            "basket": BASKET,
            "mat": Region(np.array([-0.1, 0.15, 0.0]), np.eye(3), np.array([0.05, 0.05, 0.001])),
        },
        goals[:3],
    )
    done = scene.object_position("done")
    worked, _ = play(scene, plan(scene))
    assert worked is True
    assert all(scene.holds(goal) for goal in goals[:3])
    np.testing.assert_array_equal(scene.object_position("done"), done)
    # A goal that nobody has a skill for is left alone, and is not reported as reached.
    scene.wanted = [["sing", "box", "basket"]]
    worked, idle = play(scene, plan(scene))
    assert worked is False
    assert not idle[:, :6].any()


def test_the_plan_tries_again_what_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = StubScene({"can": CAN}, {"basket": BASKET}, [["in", "can", "basket"]])
    tried = []

    def fails(scene: Scene, name: str, target: str) -> Iterator[Action]:
        tried.append((name, target))
        yield np.zeros(7)
        return False

    monkeypatch.setitem(expert.SKILLS, "in", fails)
    worked, _ = play(scene, plan(scene))
    assert worked is False
    assert tried == [("can", "basket")] * expert.ATTEMPTS


def test_a_skill_corrects_what_noise_did_to_it() -> None:
    scene = StubScene({"can": CAN}, {"basket": BASKET}, [["in", "can", "basket"]])
    random = np.random.default_rng(0)
    for action in plan(scene):
        scene.execute(disturbed(action, 0.2, random))
    assert scene.holds(["in", "can", "basket"])


def test_noise_is_as_large_as_asked_for_and_leaves_the_gripper_alone() -> None:
    meant = np.array([0.1, 0.0, -0.1, 0.0, 0.0, 0.1, CLOSE])
    np.testing.assert_array_equal(disturbed(meant, 0.0, np.random.default_rng(0)), meant)
    random = np.random.default_rng(0)
    executed = np.array([disturbed(meant, 0.1, random) for _ in range(4000)])
    # Standard error of a standard deviation from 4000 samples: 1.1 %.
    np.testing.assert_allclose(executed[:, :6].std(axis=0), [0.1] * 3 + [0.03] * 3, rtol=0.05)
    assert (executed[:, 6] == CLOSE).all()
    wild = np.array([disturbed(meant, 5.0, random) for _ in range(10)])
    assert np.abs(wild).max() == 1.0
    np.testing.assert_array_equal(meant, [0.1, 0.0, -0.1, 0.0, 0.0, 0.1, CLOSE])
