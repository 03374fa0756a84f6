"""Skills for what has a door: putting a cup in from the front, and shutting it.

A roof keeps the hand from coming from above, so the cup is held by its handle, the hand sloping down from in
front, and slid in. It goes in no deeper than LIBERO asks for; the door pushes it on.
"""

from __future__ import annotations

import numpy as np

from gr00t.libero.expert.arm import turn_about
from gr00t.libero.expert.fixtures import UP, close_drawer, grip, hand_frame, sloping
from gr00t.libero.expert.motion import (
    CLOSE,
    DOWN,
    OPEN,
    Skill,
    hold,
    lift,
    motion,
    move,
    rotation_vector,
)
from gr00t.libero.expert.scene import Array, Boxes, Joint, Region, Scene

# The hand slopes down like this on a cup's handle: steep enough to keep its back off the table, flat enough
# to stay below a roof.
_CUP_SLOPE = 0.6
# How far inside a region's edge a cup is let go, and how far in front of it the way in begins.
_INSIDE, _BEFORE = 0.02, 0.1
# Opened so far a door leaves room for the hand, 20 cm wide, and for the arm behind it.
_WIDE = 1.9
# A door is pushed by finger tips this far below its upper edge, so that the hand passes over it, at this
# share of its width from the hinge, short of its handle, and this far from its face.
_DOOR_DEPTH, _DOOR_REACH, _DOOR_CLEARANCE = 0.045, 0.72, 0.015
# They come down this far beside it, and push towards where it will be so many radians ahead.
_BESIDE, _DOOR_LEAD = 0.08, 0.35
# LIBERO calls the microwave shut within 5 milliradians.
_SHUT, _SWING_STEPS = 0.004, 120


def close(scene: Scene, name: str) -> Skill:
    """Shut a drawer's region or a fixture with a door.

    Returns:
        Whether it is shut; False also where nothing moves.
    """
    joint = scene.joint(name)
    if joint is None or joint.slides:
        return (yield from close_drawer(scene, name))
    return (yield from close_door(scene, name))


def close_door(scene: Scene, fixture: str) -> Skill:
    """Push a door shut from its outer side; returns whether it is shut."""
    yield from swing(scene, fixture, 0.0)
    return scene.holds(["close", fixture])


def swing(scene: Scene, fixture: str, position: float) -> Skill:
    """Push a door along its arc with shut finger tips, from whichever side that takes.

    Args:
        scene: Read before every step.
        fixture: Has the door.
        position: Where the door is pushed to, radians.

    Returns:
        Whether it came there.
    """
    joint = scene.joint(fixture)
    if joint is None:
        return False
    panel = panel_of(joint)
    side = 1.0 if abs(position) < abs(joint.position) else -1.0
    top = panel.center[2] + panel.extent[2]
    yield from lift(scene, top + 0.12, gripper=OPEN)
    for distance, height in ((_BESIDE, top + 0.12), (_BESIDE, top - _DOOR_DEPTH), (0.0, top - _DOOR_DEPTH)):
        place = push_point(joint, joint.position, side, distance, height)
        yield from move(scene, place, DOWN, gripper=CLOSE, tolerance=0.015, max_steps=80)
    for _ in range(_SWING_STEPS):
        joint = scene.joint(fixture)
        assert joint is not None
        left = position - joint.position
        if abs(left) < _SHUT or left * side * np.sign(joint.end) > 0.0:
            break
        # Aimed beyond the end of the arc as well, so that it still pushes there.
        ahead = joint.position + np.sign(left) * _DOOR_LEAD
        place = push_point(joint, ahead, side, 0.0, top - _DOOR_DEPTH)
        turn = rotation_vector(DOWN @ scene.hand_rotation.T)
        yield motion(place - scene.hand_position, turn, CLOSE)
    away = push_point(joint, joint.position, side, _BESIDE, top - _DOOR_DEPTH)
    yield from move(scene, away, DOWN, gripper=CLOSE, tolerance=0.02, max_steps=20)
    yield from lift(scene, top + 0.12, gripper=OPEN)
    return abs(left) < 0.05


def insert(scene: Scene, name: str, region: str) -> Skill:
    """Put an object with a handle into a region with a roof, through the opening that its door leaves.

    Returns:
        Whether it is in.
    """
    fixture = scene.parent_of(region)
    joint = scene.joint(fixture) if fixture is not None else None
    if joint is None:
        return False
    assert fixture is not None
    if abs(joint.position) < _WIDE:
        yield from swing(scene, fixture, np.sign(joint.end) * _WIDE)
    inwards = inwards_of(joint, scene.region(region))
    # Where the origin goes: just inside the region, half-way between the walls, off the floor.
    goal = scene.region(region).center - inwards * (abs(inwards) @ scene.region(region).extent - _INSIDE)
    goal, floor, ceiling = between_walls(goal, inwards, scene.obstacles(excluding=name))

    handle, towards = handle_of_cup(scene.boxes(name))
    approach = sloping(towards, _CUP_SLOPE)
    rotation = hand_frame(approach, np.cross(UP, towards), scene.hand_rotation)
    # Over the door, not against it.
    yield from lift(scene, float(joint.boxes.corners()[:, 2].max()) + 0.06, gripper=OPEN)
    above = np.array([*(handle - 0.12 * approach)[:2], scene.hand_position[2]])
    yield from move(scene, above, rotation, gripper=OPEN, tolerance=0.03, max_steps=80)
    yield from move(scene, handle - 0.12 * approach, rotation, gripper=OPEN, tolerance=0.015, max_steps=80)
    yield from move(scene, handle, rotation, gripper=OPEN, tolerance=0.005, max_steps=40)
    yield from grip(scene)

    held = scene.region(name)
    height = (floor + ceiling) / 2 - held.half[2]
    turn = float(np.arctan2(towards[0] * inwards[1] - towards[1] * inwards[0], towards @ inwards))
    rotation = turn_about(UP, turn) @ rotation
    yield from lift(scene, scene.hand_position[2] + height - held.bottom + 0.02, gripper=CLOSE, max_speed=0.6)
    for back, bottom in ((_BEFORE, height), (0.0, height), (0.0, floor)):
        way = goal - back * inwards - scene.object_position(name)
        way[2] = bottom - scene.region(name).bottom
        yield from move(
            scene,
            scene.hand_position + way,
            rotation,
            gripper=CLOSE,
            tolerance=0.008,
            max_steps=70,
            max_speed=0.5,
        )
    yield from hold(scene, OPEN, 5)
    yield from move(scene, scene.hand_position - 0.12 * inwards, rotation, gripper=OPEN, tolerance=0.02)
    yield from lift(scene, ceiling + 0.1, gripper=OPEN)
    return scene.holds(["in", name, region])


def has_roof(region: Region, fixture: Boxes) -> bool:
    """Whether a fixture covers the middle of its region so low that no hand fits in from above."""
    above = region.center + UP * np.linspace(0.0, region.extent[2] + 0.1, 40)[:, None]
    return bool(fixture.distances(above).min() == 0.0)


def handle_of_cup(boxes: Boxes) -> tuple[Array, Array]:
    """Middle of a cup's handle, (3,), and the horizontal direction from there to the cup's axis, (3,).

    A cup is a ring of many boxes around its axis; the box furthest from there is the handle.
    """
    axis = np.median(boxes.centers, axis=0)
    away = boxes.centers - axis
    away[:, 2] = 0.0
    index = int(np.argmax(np.linalg.norm(away, axis=1)))
    return boxes.centers[index], -away[index] / np.linalg.norm(away[index])


def panel_of(joint: Joint) -> Region:
    """The largest box that a hinge moves: the door itself."""
    index = int(np.argmax(joint.boxes.halves.prod(axis=1)))
    return Region(joint.boxes.centers[index], joint.boxes.rotations[index], joint.boxes.halves[index])


def outwards_of(joint: Joint, panel: Region) -> Array:
    """The direction that a door's outer side faces, (3,), unit length: the one in which it opens."""
    normal = panel.rotation[:, int(np.argmin(panel.half))]
    along = panel.center - joint.anchor
    # Opening moves the panel along this direction.
    opening = np.cross(joint.axis * np.sign(joint.end), along)
    return np.asarray(normal * np.sign(normal @ opening))


def inwards_of(joint: Joint, region: Region) -> Array:
    """The direction through the opening that a door shuts, (3,), unit length, towards the region behind."""
    shut = turn_about(joint.axis, -joint.position)
    inwards = -(shut @ outwards_of(joint, panel_of(joint)))
    return np.asarray(inwards * np.sign(inwards @ (region.center - joint.anchor)))


def push_point(joint: Joint, position: float, side: float, distance: float, height: float) -> Array:
    """Where finger tips touch a door when it stands at `position`, (3,).

    Args:
        joint: The hinge, with the door as it is now.
        position: Angle of the hinge, radians.
        side: 1 for the outer side of the door, -1 for the inner one.
        distance: Further off the door, metres.
        height: Above the world's floor.
    """
    panel = panel_of(joint)
    outwards = outwards_of(joint, panel)
    along = panel.center - joint.anchor
    middle = along @ outwards
    along = (along - outwards * middle) * [1.0, 1.0, 0.0]
    off = side * (panel.half.min() + _DOOR_CLEARANCE + distance)
    offset = 2 * _DOOR_REACH * along + outwards * (middle + off)
    point = joint.anchor + turn_about(joint.axis, position - joint.position) @ offset
    return np.array([point[0], point[1], height])


def between_walls(goal: Array, inwards: Array, obstacles: Boxes) -> tuple[Array, float, float]:
    """`goal` moved half-way between the walls beside it, (3,), and the heights of floor and ceiling there."""
    side = np.cross(UP, inwards)
    steps = np.linspace(-0.15, 0.15, 61)
    room = obstacles.distances(goal + side * steps[:, None])
    # Of the places with most room the one in the middle.
    best = np.flatnonzero(room > room.max() - 0.003)
    goal = goal + side * steps[best].mean()
    # A little further in: floor and ceiling may begin behind the edge of the region.
    inner = goal + 0.03 * inwards
    rays = np.linspace(0.0, 0.3, 301)
    down = obstacles.distances(inner - UP * rays[:, None]) == 0.0
    up = obstacles.distances(inner + UP * rays[:, None]) == 0.0
    return goal, float(goal[2] - rays[np.argmax(down)]), float(goal[2] + rays[np.argmax(up)])
