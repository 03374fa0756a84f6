"""Picking an object up from above, and putting it into or onto something."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gr00t.libero.expert.arm import upright
from gr00t.libero.expert.grasps import FINGER_TRAVEL, Grasp, grasps, is_hollow
from gr00t.libero.expert.holding import (
    RAISE,
    RISEN,
    TRAVEL_STEPS,
    begins_to_grasp,
    free_hand,
    release,
    tighten,
)
from gr00t.libero.expert.motion import (
    CLOSE,
    OPEN,
    STAY,
    Skill,
    about_z,
    hold,
    lift,
    move,
    rotation_vector,
)
from gr00t.libero.expert.scene import Array, Scene

PICK_ATTEMPTS = 6
# An attempt that ended because the object moved does not count; so often is it looked for in all.
_LOOKS = 40
# Above the object's top while approaching; what the held object keeps above the target's edge, and above and
# beside whatever else is on its way.
_HOVER, _CLEARANCE, _ROOM = 0.08, 0.05, 0.03
# What is further from where it was, metres, has to be taken another way.
_MOVED = 0.012
# Fingers that have to come back sideways while they come down rise so far above the object's top.
_OVER_TOP = 0.025
# Nearer than this to a grasp the fingers close.
_AT_GRASP = 0.007
# Steps in which the fingers close on something; a rim is thin, so they travel further.
_CLOSING_STEPS, _RIM_CLOSING_STEPS = 8, 11
# Steps to come down to a grasp, with time to come back from one that a disturbance has made miss.
_APPROACH_STEPS = 100
# A hand no further beside a grasp, metres, nor turned from it by more, radians, may come down to it at once;
# lower than this above the object's top only with fingers that are open.
_BESIDE, _TURNED, _ABOVE = 0.03, 0.35, 0.02
# What is carried rises these last metres on its way.
_RISING = 0.03
# The origin of what is put between walls goes so far below their upper edge.
_INSIDE = 0.015
# Held no further beside its place than this an object is lowered at once.
_OVER = 0.012


@dataclass(frozen=True)
class Target:
    """Where an object goes: its middle to `xy` (2,), resting at height `surface`, over an edge at `top`."""

    xy: Array
    surface: float
    top: float


def put_on(scene: Scene, name: str, target: str) -> Skill:
    """Pick an object up and set it down on an object or region."""
    picked = yield from pick(scene, name)
    return picked and (yield from place(scene, name, target, inside=False))


def pick(scene: Scene, name: str) -> Skill:
    """Take hold of an object from above and raise it; tries one grasp after the other, each twice.

    Returns:
        Whether the object rose with the hand.
    """
    failed = 0
    for _ in range(_LOOKS):
        if (yield from keep(scene, name)):
            return True
        # Looked up anew: a failed attempt may have moved things. What went wrong once is more often chance
        # than a bad grasp, and who always takes an object the same way is easier to learn from.
        candidates = grasps(scene, name)
        before = scene.object_position(name)
        if (yield from take(scene, name, candidates[failed // 2 % len(candidates)])):
            return True
        failed += has_stayed(scene, name, before)
        if failed == PICK_ATTEMPTS:
            break
    return False


def has_stayed(scene: Scene, name: str, before: Array) -> bool:
    """Whether an object is still where it was, and is not to be taken another way."""
    return float(np.linalg.norm(scene.object_position(name) - before)) <= _MOVED


def keep(scene: Scene, name: str) -> Skill:
    """Hold on to an object that is in the hand already, or nearly so, and put down any other.

    Returns:
        Whether the object is held and off what it stood on.
    """
    if begins_to_grasp(scene, name):
        return (yield from tighten(scene, name))
    yield from free_hand(scene)
    return False


def take(scene: Scene, name: str, grasp: Grasp) -> Skill:
    """Take hold of an object in one particular way and raise it.

    Returns:
        Whether the object rose with the hand; if not, the fingers are open again, or it has moved meanwhile.
    """
    before = scene.object_position(name)
    arrived = yield from while_unmoved(scene, name, reach(scene, name, grasp))
    height = scene.object_position(name)[2]
    if not has_stayed(scene, name, before):
        return False
    if not arrived and scene.hand_position[2] > grasp.position[2] + 0.018:
        yield from lift(scene, scene.region(name).top + _HOVER, gripper=OPEN)
        return False
    steps = _RIM_CLOSING_STEPS if is_hollow(scene.boxes(name)) else _CLOSING_STEPS
    yield from hold(scene, CLOSE, steps, at=grasp.position, rotation=grasp.rotation)
    raised = scene.hand_position[2] + RAISE
    yield from lift(scene, raised, grasp.rotation, gripper=CLOSE, max_speed=0.6)
    if scene.object_position(name)[2] > height + RISEN:
        return True
    yield from hold(scene, OPEN, 4)
    return False


def while_unmoved(scene: Scene, name: str, skill: Skill) -> Skill:
    """Follow a skill until an object is no longer where it was; returns what the skill does, else False."""
    start = scene.object_position(name)
    while True:
        try:
            action = next(skill)
        except StopIteration as end:
            return bool(end.value)
        if not has_stayed(scene, name, start):
            return False
        yield action


def reach(scene: Scene, name: str, grasp: Grasp) -> Skill:
    """Bring open fingers around an object from above; returns whether they arrived."""
    top = scene.region(name).top
    fits = grasp.opening >= 0.9 * FINGER_TRAVEL
    if not (fits and is_above(scene, name, grasp)):
        yield from approach(scene, name, grasp, np.array([*grasp.position[:2], top + _HOVER]))
    fingers = OPEN
    if not fits:
        # The fingers close at constant speed: a number of steps is an opening.
        yield from hold(scene, CLOSE, round((1 - grasp.opening / FINGER_TRAVEL) * TRAVEL_STEPS))
        fingers = STAY
    return (
        yield from move(
            scene,
            grasp.position,
            grasp.rotation,
            gripper=fingers,
            tolerance=_AT_GRASP,
            max_steps=_APPROACH_STEPS,
            max_speed=0.7,
            funnel=top + _OVER_TOP - grasp.position[2],
        )
    )


def is_above(scene: Scene, name: str, grasp: Grasp) -> bool:
    """Whether the hand may go straight down to a grasp from where it is, or is there."""
    beside = float(np.linalg.norm(scene.hand_position[:2] - grasp.position[:2]))
    turned = float(np.linalg.norm(rotation_vector(grasp.rotation @ scene.hand_rotation.T)))
    top = scene.region(name).top
    opened = scene.finger_opening >= 1.7 * FINGER_TRAVEL or scene.hand_position[2] > top + _ABOVE
    return beside < _BESIDE and turned < _TURNED and opened and scene.hand_position[2] < top + 1.5 * _HOVER


def approach(scene: Scene, name: str, grasp: Grasp, above: Array) -> Skill:
    """Bring open fingers over a grasp, `above` (3,) it; returns whether they arrived."""
    # The fingers pass over what stands on the way, such as the basket that the hand has just left.
    on_the_way = scene.obstacles(excluding=name).highest_along(
        scene.hand_position[:2], grasp.position[:2], 2 * FINGER_TRAVEL
    )
    if on_the_way + _ROOM > above[2]:
        yield from lift(scene, on_the_way + _ROOM, gripper=OPEN)
        higher = np.array([*above[:2], on_the_way + _ROOM])
        yield from move(scene, higher, grasp.rotation, gripper=OPEN, tolerance=0.02, max_steps=70)
    yield from lift(scene, above[2] - 0.02, gripper=OPEN)
    # From 3 cm beside the grasp a funnel leads on.
    tolerance = 0.03 if grasp.opening >= 0.9 * FINGER_TRAVEL else 0.012
    return (yield from move(scene, above, grasp.rotation, gripper=OPEN, tolerance=tolerance, max_steps=70))


def place(scene: Scene, name: str, target: str | Target, *, inside: bool, turn: float = 0.0) -> Skill:
    """Carry the held object over a target, lower it and let go.

    Args:
        scene: The object is in the hand.
        name: The object.
        target: An object or region, or a place of one's own choice.
        inside: Drop it between walls, from just below their upper edge, instead of setting it down.
        turn: Turn it by this angle about the vertical on the way, radians.

    Returns:
        Whether the object was not lost on the way; whether the goal holds is for the caller to see, once
        things have come to rest.
    """
    goal = find_target(scene, target) if isinstance(target, str) else target
    rotation = about_z(turn) @ upright(scene.hand_rotation)
    if np.linalg.norm(goal.xy - _middle(scene, name, inside)) > _OVER:
        yield from carry(scene, name, goal, rotation, inside)
    if scene.in_hand() != name:
        return False
    # The object may have slipped on the way.
    hang = _hang(scene, name)
    over = scene.hand_position[:2] + goal.xy - _middle(scene, name, inside)
    height = goal.surface + 0.01
    if inside:
        # LIBERO asks for the origin, which is high in a tall object.
        origin = scene.object_position(name)[2] - scene.region(name).bottom
        height = max(goal.surface + 0.03, min(goal.top - 0.05, goal.top - _INSIDE - origin))
    yield from move(
        scene,
        np.array([*over, height + hang]),
        rotation,
        gripper=CLOSE,
        tolerance=0.007,
        max_speed=0.5,
        holding=name,
    )
    yield from release(scene)
    yield from lift(scene, scene.hand_position[2] + 0.1, gripper=OPEN)
    return True


def carry(scene: Scene, name: str, goal: Target, rotation: Array, inside: bool) -> Skill:
    """Bring the held object over its goal, above whatever is on the way; returns whether it arrived."""
    held = scene.region(name)
    radius = float(held.half[:2].max()) + _ROOM
    on_the_way = scene.obstacles(excluding=name).highest_along(held.center[:2], goal.xy, radius)
    hang = _hang(scene, name)
    clear = max(goal.surface + _CLEARANCE, goal.top + _CLEARANCE, on_the_way + _ROOM) + hang
    # The rest is risen on the way.
    yield from lift(scene, clear - _RISING, rotation, gripper=CLOSE, holding=name)
    hand = scene.hand_position
    over = hand[:2] + goal.xy - _middle(scene, name, inside)
    return (
        yield from move(
            scene,
            np.array([*over, max(clear, hand[2])]),
            rotation,
            gripper=CLOSE,
            tolerance=0.012,
            max_steps=80,
            holding=name,
        )
    )


def find_target(scene: Scene, name: str) -> Target:
    """Where things go that are put on an object or region, or into it."""
    region = scene.region(name)
    if scene.is_object(name):
        # Bowls and plates have a bottom of about a centimetre; LIBERO compares origins, not middles.
        return Target(scene.object_position(name)[:2], region.bottom + 0.012, region.top)
    return Target(region.center[:2], region.bottom, region.top)


def _middle(scene: Scene, name: str, inside: bool) -> Array:
    """What of an object has to be over the target, (2,)."""
    if inside:
        return scene.region(name).center[:2]
    return scene.object_position(name)[:2]


def _hang(scene: Scene, name: str) -> float:
    """How far the object reaches below the finger tips."""
    return float(scene.hand_position[2] - scene.region(name).bottom)
