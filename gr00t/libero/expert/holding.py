"""What is in the hand when a skill begins: kept if it is what is wanted, put down if it is not.

A skill may be started at any moment of somebody else's episode. What matters then is what touches the fingers
now, not how it came there.
"""

from __future__ import annotations

import itertools

import numpy as np

from gr00t.libero.expert.motion import CLOSE, OPEN, Skill, hold, lift, move
from gr00t.libero.expert.scene import Array, Scene

# Closing from fully open takes so many steps.
TRAVEL_STEPS = 8
# An object that rose by this much was gripped; it is raised by more, to see whether it comes along.
RISEN, RAISE = 0.012, 0.05
# Further apart by this, metres, than when they held something the fingers have left it, or when wide open;
# and control steps that this takes, at least and at most.
_RELEASED, _WIDE_OPEN, _RELEASE_STEPS = 0.012, 0.076, (6, 12)
# What hangs no higher than this above the floor is let go of where it is.
_LOW = 0.015
# Room around what is put down for the fingers that let go of it, and where it is looked for: metres around.
_ROOM, _AROUND = 0.03, np.arange(-0.2, 0.21, 0.04)
# Fingers further apart than this have not begun to close; what they close on lies between these shares of the
# way from one to the other.
_OPENED, _BETWEEN = 0.07, np.linspace(-0.3, 0.3, 7)


def begins_to_grasp(scene: Scene, name: str) -> bool:
    """Whether fingers that are closing have an object between them, or hold it already."""
    if scene.in_hand() == name:
        return True
    opening = scene.finger_opening
    if scene.in_hand() is not None or opening > _OPENED:
        return False
    between = scene.hand_position + scene.hand_rotation[:, 0] * (_BETWEEN * opening)[:, None]
    return bool(scene.boxes(name).distances(between).min() == 0.0)


def tighten(scene: Scene, name: str, steps: int = TRAVEL_STEPS) -> Skill:
    """Close the fingers as far as they go around an object and raise it.

    Args:
        scene: Read before every step.
        name: What is between the fingers.
        steps: At most so many are spent on closing.

    Returns:
        Whether the object is held and came along; if not, the fingers are open again.
    """
    place, rotation = scene.hand_position, scene.hand_rotation
    for _ in range(steps):
        if scene.grip_command == CLOSE:
            break
        yield from hold(scene, CLOSE, 1, at=place, rotation=rotation)
    if bottom_above_support(scene, name) > _LOW and scene.in_hand() == name:
        return True
    height = scene.object_position(name)[2]
    yield from lift(scene, scene.hand_position[2] + RAISE, rotation, gripper=CLOSE, max_speed=0.6)
    if scene.object_position(name)[2] > height + RISEN:
        return True
    yield from hold(scene, OPEN, 4)
    return False


def release(scene: Scene) -> Skill:
    """Open the fingers until they have left what they hold; returns True.

    They were driven further together than the object let them, so that wide ones take their time. Raised too
    early, a pad takes the object along by whatever sticks out of it.
    """
    opened = min(scene.finger_opening + _RELEASED, _WIDE_OPEN)
    for step in range(_RELEASE_STEPS[1]):
        if step >= _RELEASE_STEPS[0] and scene.finger_opening >= opened:
            break
        yield from hold(scene, OPEN, 1)
    return True


def free_hand(scene: Scene, keep: str = "") -> Skill:
    """Put down what is in the hand, if it is anything but `keep`; returns True."""
    name = scene.in_hand()
    if name is None or name == keep:
        return True
    rotation = scene.hand_rotation
    if scene.region(name).bottom - floor_of(scene) > _LOW:
        yield from lift(scene, scene.hand_position[2] + _clearance(scene, name), gripper=CLOSE)
        way = free_place(scene, name) - scene.region(name).center[:2]
        over = np.array([*(scene.hand_position[:2] + way), scene.hand_position[2]])
        yield from move(scene, over, rotation, gripper=CLOSE, tolerance=0.015)
        down = scene.hand_position - [0.0, 0.0, scene.region(name).bottom - floor_of(scene) - 0.004]
        yield from move(scene, down, rotation, gripper=CLOSE, tolerance=0.007, max_speed=0.5)
    yield from release(scene)
    yield from lift(scene, scene.hand_position[2] + 0.1, gripper=OPEN)
    return True


def free_place(scene: Scene, name: str) -> Array:
    """The place nearest to below an object, (2,), where it can be put down without touching anything."""
    region = scene.region(name)
    here, radius = region.center[:2], float(np.linalg.norm(region.half[:2])) + _ROOM
    obstacles = scene.obstacles(excluding=name)
    offsets = sorted(itertools.product(_AROUND, _AROUND), key=lambda offset: float(np.hypot(*offset)))
    best = (-np.inf, here)
    for offset in offsets:
        place = here + offset
        points = np.array([[*place, floor_of(scene) + height] for height in (0.01, 0.05, 0.1)])
        room = float(obstacles.distances(points).min())
        if room >= radius:
            return np.asarray(place)
        best = max(best, (room, place), key=lambda found: found[0])
    return best[1]


def bottom_above_support(scene: Scene, name: str) -> float:
    """How high an object hangs above what is below its middle: the floor, the table, or something on it."""
    region = scene.region(name)
    obstacles = scene.obstacles(excluding=name)
    below = obstacles.highest_along(region.center[:2], region.center[:2], 0.005)
    if below > region.center[2]:
        below = -np.inf
    return region.bottom - max(below, floor_of(scene))


def floor_of(scene: Scene) -> float:
    """Height of what the lowest thing stands on."""
    return float(scene.obstacles().corners()[:, 2].min())


def _clearance(scene: Scene, name: str) -> float:
    """How far to raise what is held so that it passes over what is near, metres."""
    region = scene.region(name)
    low, high = region.center[:2] - 0.1, region.center[:2] + 0.1
    nearby = scene.obstacles(excluding=name).highest_along(low, high, 0.05)
    return max(0.0, nearby + 0.02 - region.bottom)
