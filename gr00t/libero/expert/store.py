"""Putting things where there is more to it than lowering them: into a drawer, or along a table."""

from __future__ import annotations

import itertools

import numpy as np

from gr00t.libero.expert.doors import has_roof, insert
from gr00t.libero.expert.fixtures import grip, open_drawer, outwards
from gr00t.libero.expert.grasps import WIDEST, grasps, room_at
from gr00t.libero.expert.motion import CLOSE, OPEN, Skill, about_z, hold, lift, move
from gr00t.libero.expert.pick_place import PICK_ATTEMPTS, Target, pick, place, put_on, take
from gr00t.libero.expert.scene import Array, Boxes, Joint, Region, Scene

# A flat thing can be moved on its table without tipping over.
_FLAT = 0.04
# More room than this is no better, beside what is pushed and beside the hand that lets go; a metre of detour
# is worth so much room.
_ENOUGH_ROOM, _DETOUR = 0.015, 0.02
# From the middle of an object to what hangs over its surroundings: half the hand's depth, and some room.
_BESIDE = 0.06
# The floor of a drawer reaches this far into its region; what begins higher above it is out of the way.
_FLOOR, _CEILING = 0.012, 0.25
# Room between objects side by side.
_BETWEEN = 0.015
# Room on each side of an object that goes between walls.
_PLAY = 0.008
# How much of a region is aimed at: LIBERO counts an object whose origin is inside.
_AIM = 0.6


def put_inside(scene: Scene, name: str, region: str) -> Skill:
    """Put an object into a region, opening the drawer that it is in first if need be."""
    joint, parent = scene.joint(region), scene.parent_of(region)
    if joint is None and parent is not None and has_roof(scene.region(region), scene.boxes(parent)):
        return (yield from insert(scene, name, region))
    if joint is not None and joint.slides and not scene.holds(["open", region]):
        yield from clear_way(scene, name, joint)
        opened = yield from open_drawer(scene, region)
        if not opened:
            return False
    if joint is None:
        picked = yield from pick(scene, name)
        turn = turn_to_fit(scene.corners(name), scene.region(region))
        return picked and (yield from place(scene, name, region, inside=True, turn=turn))
    goal = roomiest(scene.region(region), scene.obstacles(excluding=name))
    picked = yield from pick_for(scene, name, goal)
    return picked and (yield from place(scene, name, goal, inside=True))


def turn_to_fit(corners: Array, region: Region) -> float:
    """The smallest turn about the vertical with which an object of these corners (C, 3) fits into a region.

    0 if it fits as it is; of the turns that do not make it fit, the one with which it sticks out least.
    """
    outline = (corners - (corners.min(axis=0) + corners.max(axis=0)) / 2)[:, :2]
    # Away from 0 step by step: the first of equals is the smallest.
    turns = sorted(np.linspace(-np.pi / 2, np.pi / 2, 37), key=abs)
    excess = []
    for turn in turns:
        half = np.abs(outline @ about_z(turn)[:2, :2].T).max(axis=0)
        excess.append(float(np.maximum(half + _PLAY - region.extent[:2], 0.0).sum()))
    # Below a millimetre there is nothing to choose.
    return float(turns[int(np.argmin(np.round(excess, 3)))])


def pick_for(scene: Scene, name: str, goal: Target) -> Skill:
    """Pick an object up so that the hand has room to let go of it at its goal, too."""
    for attempt in range(PICK_ATTEMPTS):
        held = scene.region(name)
        shift = np.array([*(goal.xy - held.center[:2]), goal.surface - held.bottom])
        obstacles = scene.obstacles(excluding=name)
        candidates = grasps(scene, name, limit=12)
        # Sorted by the room there; Python's sort keeps the order among those that have enough.
        candidates.sort(key=lambda grasp: -min(room_at(grasp, shift, obstacles), _ENOUGH_ROOM))
        if (yield from take(scene, name, candidates[attempt % len(candidates)])):
            return True
    return False


def roomiest(region: Region, obstacles: Boxes) -> Target:
    """The place in a region that is furthest from what rises above its bottom, seen from above.

    The middle of a drawer's region is no such place: the cabinet hangs over one side of it.
    """
    low, high = region.center - region.extent, region.center + region.extent
    corners = obstacles.corners().reshape(-1, 8, 3)
    rises = (corners[..., 2].max(axis=1) > region.bottom + _FLOOR) & (
        corners[..., 2].min(axis=1) < high[2] + _CEILING
    )
    walls = Boxes(obstacles.centers[rises] * [1, 1, 0], obstacles.rotations[rises], obstacles.halves[rises])
    x, y = np.meshgrid(*(np.linspace(low[axis], high[axis], 23)[1:-1] for axis in (0, 1)))
    places = np.column_stack([x.ravel(), y.ravel(), np.zeros(x.size)])
    room = walls.distances(places)
    # Of places with equal room, the one nearest to the middle.
    away = np.linalg.norm(places[:, :2] - region.center[:2], axis=1)
    return Target(places[np.argmax(room - 0.1 * away), :2], region.bottom, region.top)


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


def put_onto(scene: Scene, name: str, target: str) -> Skill:
    """Put an object onto another, or onto a region; a flat wide one is pushed if it stays on its table."""
    if not scene.is_object(target) and scene.parent_of(target) is None and is_flat(scene.corners(name)):
        return (yield from push(scene, name, target))
    together = [goal[1] for goal in scene.goals() if goal[0] == "on" and goal[2] == target]
    if len(together) < 2 or scene.is_object(target):
        return (yield from put_on(scene, name, target))
    picked = yield from pick(scene, name)
    goal = share(
        scene.region(target), [scene.region(other).extent for other in together], together.index(name)
    )
    return picked and (yield from place(scene, name, goal, inside=False))


def share(region: Region, extents: list[Array], index: int) -> Target:
    """The place of one of several objects that go onto the same region: in a row across their long side.

    Args:
        region: What they share.
        extents: Half sizes of the upright boxes around the objects, (3,) each.
        index: Whose place is asked for.
    """
    widths = 2 * np.array(extents)[:, :2] + _BETWEEN
    axis = int(np.argmin(widths.sum(axis=0)))
    ends = np.cumsum(widths[:, axis])
    xy = region.center[:2].copy()
    xy[axis] += ends[index] - widths[index, axis] / 2 - ends[-1] / 2
    return Target(xy, region.bottom, region.top)


def push(scene: Scene, name: str, target: str) -> Skill:
    """Push an object along the table into a region, around what stands in the way.

    The fingers hold its rim, so that it goes where the hand goes; from outside a round thing would roll off.
    """
    radius = float(scene.region(name).half[:2].max())
    obstacles = scene.obstacles(excluding=name)
    way = route(scene.object_position(name)[:2], scene.region(target), radius, obstacles)
    yield from drag(scene, name, way)
    return scene.holds(["on", name, target])


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
