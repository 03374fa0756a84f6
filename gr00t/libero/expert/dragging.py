"""Moving things along the table without lifting them: to their place, or out of the way of a drawer."""

from __future__ import annotations

import itertools

import numpy as np

from gr00t.libero.expert.fixtures import grip, outwards
from gr00t.libero.expert.grasps import WIDEST, grasps
from gr00t.libero.expert.motion import CLOSE, OPEN, Skill, hold, lift, move
from gr00t.libero.expert.scene import Array, Boxes, Joint, Region, Scene

# A flat thing can be moved on its table without tipping over.
_FLAT = 0.04
# More room than this beside what is pushed is no better; a metre of detour is worth so much room.
_ENOUGH_ROOM, _DETOUR = 0.015, 0.02
# From the middle of an object to what hangs over its surroundings: half the hand's depth, and some room.
_BESIDE = 0.06
# How much of a region is aimed at: LIBERO counts an object whose origin is inside.
_AIM = 0.6


def push(scene: Scene, name: str, target: str) -> Skill:
    """Push an object along the table into a region, around what stands in the way.

    The fingers hold its rim, so that it goes where the hand goes; from outside a round thing would roll off.
    """
    radius = float(scene.region(name).half[:2].max())
    obstacles = scene.obstacles(excluding=name)
    way = route(scene.object_position(name)[:2], scene.region(target), radius, obstacles)
    yield from drag(scene, name, way)
    return scene.holds(["on", name, target])


def clear_way(scene: Scene, name: str, joint: Joint) -> Skill:
    """Drag an object out from where an opened drawer will hang over it: no hand reaches it there."""
    shadow = Boxes(
        joint.boxes.centers + outwards(joint) * (abs(joint.end) - abs(joint.position)),
        joint.boxes.rotations,
        joint.boxes.halves,
    )
    place = beside(
        scene.object_position(name)[:2],
        float(scene.region(name).half[:2].max()),
        scene.region(name).center[2],
        scene.obstacles(excluding=name),
        shadow,
    )
    if place is None:
        return True
    return (yield from drag(scene, name, [place]))


def drag(scene: Scene, name: str, way: list[Array]) -> Skill:
    """Move an object along the table, held but not lifted; its origin passes through the points (2,)."""
    grasp = grasps(scene, name)[0]
    hover = scene.region(name).top + 0.08
    above = np.array([grasp.position[0], grasp.position[1], hover])
    yield from lift(scene, hover, gripper=OPEN)
    yield from move(scene, above, grasp.rotation, gripper=OPEN, tolerance=0.012, max_steps=70)
    yield from move(
        scene, grasp.position, grasp.rotation, gripper=OPEN, tolerance=0.005, max_steps=40, max_speed=0.7
    )
    yield from grip(scene)
    for point in way:
        hand = scene.hand_position
        there = np.array([*(hand[:2] + point - scene.object_position(name)[:2]), hand[2]])
        yield from move(scene, there, grasp.rotation, gripper=CLOSE, tolerance=0.01, max_steps=60)
    yield from hold(scene, OPEN, 6)
    return (yield from lift(scene, scene.hand_position[2] + 0.1, gripper=OPEN))


def beside(start: Array, radius: float, height: float, obstacles: Boxes, shadow: Boxes) -> Array | None:
    """The nearest place (2,) for a disc that is not below `shadow`, reached along a straight free way.

    Args:
        start: Where the disc's middle is, (2,).
        radius: Of the disc, metres.
        height: Of the disc above the floor.
        obstacles: What it must not touch on its way.
        shadow: What it must not be below, at whatever height.

    Returns:
        The place; None if the disc is well where it is, or nowhere is better.
    """
    flat = Boxes(shadow.centers * [1, 1, 0], shadow.rotations, shadow.halves)
    if flat.distances(np.array([[*start, 0.0]]))[0] >= _BESIDE:
        return None
    directions = np.linspace(0.0, 2 * np.pi, 17)[:-1]
    for distance in np.arange(0.02, 0.2, 0.01):
        for angle in directions:
            end = start + distance * np.array([np.cos(angle), np.sin(angle)])
            way = np.column_stack([np.linspace(start, end, 8), np.full(8, height)])
            # What it touches already may stay as near as it is.
            room = obstacles.distances(way)
            if (
                room.min() >= min(radius + 0.005, room[0])
                and flat.distances(np.array([[*end, 0.0]]))[0] >= _BESIDE
            ):
                return np.asarray(end)
    return None


def route(start: Array, region: Region, radius: float, obstacles: Boxes) -> list[Array]:
    """Corners of the way of a disc along the table into a region, the last one inside.

    Ways with at most one corner are compared, straight ones and those along the world's axes, to nine places
    in the region: the one with most room wins, and of those with enough the shortest.

    Args:
        start: Where the disc's middle is, (2,).
        region: Where it shall be.
        radius: Of the disc, metres.
        obstacles: What it must not touch; only what is near the region's height counts.
    """
    height = region.center[2]
    steps = np.linspace(-_AIM, _AIM, 3)
    best: tuple[float, list[Array]] = (-np.inf, [])
    for x, y in itertools.product(steps, steps):
        end = region.center[:2] + region.extent[:2] * [x, y]
        for corner in (start, np.array([start[0], end[1]]), np.array([end[0], start[1]])):
            way = np.concatenate([np.linspace(start, corner, 12), np.linspace(corner, end, 12)])
            points = np.column_stack([way, np.full(len(way), height + 0.015)])
            room = float(obstacles.distances(points).min()) - radius
            length = float(np.linalg.norm(np.diff(way, axis=0), axis=1).sum())
            score = min(room, _ENOUGH_ROOM) - _DETOUR * length
            if score > best[0]:
                best = (score, [corner, end])
    return best[1]


def is_flat(corners: Array) -> bool:
    """Whether an object of these corners (C, 3) is low, and too wide to be gripped across."""
    size = np.ptp(corners, axis=0)
    return bool(size[2] < _FLAT and size[:2].min() > WIDEST)
