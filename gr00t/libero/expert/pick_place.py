"""Picking an object up from above, and putting it into or onto something."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gr00t.libero.expert.grasps import FINGER_TRAVEL, Grasp, grasps, is_hollow
from gr00t.libero.expert.holding import RAISE, RISEN, TRAVEL_STEPS, begins_to_grasp, free_hand, tighten
from gr00t.libero.expert.motion import (
    CLOSE,
    DOWN,
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

PICK_ATTEMPTS = 5
# Above the object's top while approaching; what the held object keeps above the target's edge, and above and
# beside whatever else is on its way.
_HOVER, _CLEARANCE, _ROOM = 0.08, 0.05, 0.03
# Nearer than this to a grasp the fingers close.
_AT_GRASP = 0.007
# Steps in which the fingers close on something; a rim is thin, so they travel further.
_CLOSING_STEPS, _RIM_CLOSING_STEPS = 8, 11
# Steps to come down to a grasp, with time to come back from one that a disturbance has made miss.
_APPROACH_STEPS = 100
# A hand no further beside a grasp, metres, nor turned from it by more, radians, may come down to it at once;
# lower than this above the object's top only with fingers that are open.
_BESIDE, _TURNED, _ABOVE = 0.03, 0.35, 0.02
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
    """Take hold of an object from above and raise it; tries one grasp after the other.

    Returns:
        Whether the object rose with the hand.
    """
    if (yield from keep(scene, name)):
        return True
    for attempt in range(PICK_ATTEMPTS):
        # Looked up anew: a failed attempt may have moved things.
        candidates = grasps(scene, name)
        if (yield from take(scene, name, candidates[attempt % len(candidates)])):
            return True
    return False


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
        Whether the object rose with the hand; if not, the fingers are open again.
    """
    hover = scene.region(name).top + _HOVER
    above = np.array([grasp.position[0], grasp.position[1], hover])
    fits = grasp.opening >= 0.9 * FINGER_TRAVEL
    if not (fits and is_above(scene, name, grasp)):
        yield from approach(scene, name, grasp, above)
    fingers = OPEN
    if not fits:
        # The fingers close at constant speed: a number of steps is an opening.
        yield from hold(scene, CLOSE, round((1 - grasp.opening / FINGER_TRAVEL) * TRAVEL_STEPS))
        fingers = STAY
    arrived = yield from move(
        scene,
        grasp.position,
        grasp.rotation,
        gripper=fingers,
        tolerance=_AT_GRASP,
        max_steps=_APPROACH_STEPS,
        max_speed=0.7,
        funnel=hover - grasp.position[2],
    )
    if not arrived and scene.hand_position[2] > grasp.position[2] + 0.018:
        yield from lift(scene, hover, gripper=OPEN)
        return False
    height = scene.object_position(name)[2]
    steps = _RIM_CLOSING_STEPS if is_hollow(scene.boxes(name)) else _CLOSING_STEPS
    yield from hold(scene, CLOSE, steps, at=grasp.position, rotation=grasp.rotation)
    raised = scene.hand_position[2] + RAISE
    yield from lift(scene, raised, grasp.rotation, gripper=CLOSE, max_speed=0.6)
    if scene.object_position(name)[2] > height + RISEN:
        return True
    yield from hold(scene, OPEN, 4)
    return False


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
        True; whether the goal holds is for the caller to see, once things have come to rest.
    """
    goal = find_target(scene, target) if isinstance(target, str) else target
    rotation = about_z(turn) @ upright(scene.hand_rotation)
    if np.linalg.norm(goal.xy - _middle(scene, name, inside)) > _OVER:
        yield from carry(scene, name, goal, rotation, inside)
    # The object may have slipped on the way.
    hang = _hang(scene, name)
    over = scene.hand_position[:2] + goal.xy - _middle(scene, name, inside)
    height = max(goal.surface + 0.03, goal.top - 0.05) if inside else goal.surface + 0.01
    yield from move(
        scene,
        np.array([*over, height + hang]),
        rotation,
        gripper=CLOSE,
        tolerance=0.007,
        max_speed=0.5,
    )
    yield from hold(scene, OPEN, 6)
    yield from lift(scene, scene.hand_position[2] + 0.1, gripper=OPEN)
    return True


def carry(scene: Scene, name: str, goal: Target, rotation: Array, inside: bool) -> Skill:
    """Bring the held object over its goal, above whatever is on the way; returns whether it arrived."""
    held = scene.region(name)
    radius = float(held.half[:2].max()) + _ROOM
    on_the_way = scene.obstacles(excluding=name).highest_along(held.center[:2], goal.xy, radius)
    hang = _hang(scene, name)
    clear = max(goal.surface + _CLEARANCE, goal.top + _CLEARANCE, on_the_way + _ROOM) + hang
    yield from lift(scene, clear, rotation, gripper=CLOSE)
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
        )
    )


def find_target(scene: Scene, name: str) -> Target:
    """Where things go that are put on an object or region, or into it."""
    region = scene.region(name)
    if scene.is_object(name):
        # Bowls and plates have a bottom of about a centimetre; LIBERO compares origins, not middles.
        return Target(scene.object_position(name)[:2], region.bottom + 0.012, region.top)
    return Target(region.center[:2], region.bottom, region.top)


def upright(rotation: Array) -> Array:
    """The hand pointing straight down, turned about the vertical as it is in `rotation`, (3, 3)."""
    return about_z(float(np.arctan2(-rotation[0, 0], rotation[1, 0]))) @ DOWN


def _middle(scene: Scene, name: str, inside: bool) -> Array:
    """What of an object has to be over the target, (2,)."""
    if inside:
        return scene.region(name).center[:2]
    return scene.object_position(name)[:2]


def _hang(scene: Scene, name: str) -> float:
    """How far the object reaches below the finger tips."""
    return float(scene.hand_position[2] - scene.region(name).bottom)
