"""Putting things where there is more to it than lowering them: into drawers and slots, or side by side."""

from __future__ import annotations

import numpy as np

from gr00t.libero.expert.doors import has_roof, insert
from gr00t.libero.expert.dragging import clear_way, is_flat, push
from gr00t.libero.expert.fixtures import open_drawer
from gr00t.libero.expert.grasps import grasps, room_at
from gr00t.libero.expert.holding import free_hand
from gr00t.libero.expert.motion import Skill, about_z
from gr00t.libero.expert.pick_place import PICK_ATTEMPTS, Target, keep, pick, place, put_on, take
from gr00t.libero.expert.scene import Array, Boxes, Region, Scene

# More room than this beside the hand that lets go is no better.
_ENOUGH_ROOM = 0.015
# The floor of a drawer reaches this far into its region; what begins higher above it is out of the way.
_FLOOR, _CEILING = 0.012, 0.25
# Room between objects side by side.
_BETWEEN = 0.015
# Room on each side of an object that goes between walls.
_PLAY = 0.008


def put_inside(scene: Scene, name: str, region: str) -> Skill:
    """Put an object into a region, opening the drawer that it is in first if need be."""
    joint, parent = scene.joint(region), scene.parent_of(region)
    if joint is None and parent is not None and has_roof(scene.region(region), scene.boxes(parent)):
        yield from free_hand(scene)
        return (yield from insert(scene, name, region))
    if joint is not None and joint.slides and not scene.holds(["open", region]):
        yield from free_hand(scene)
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


def put_onto(scene: Scene, name: str, target: str) -> Skill:
    """Put an object onto another, or onto a region; a flat wide one is pushed if it stays on its table."""
    if not scene.is_object(target) and scene.parent_of(target) is None and is_flat(scene.corners(name)):
        yield from free_hand(scene)
        return (yield from push(scene, name, target))
    together = [goal[1] for goal in scene.goals() if goal[0] == "on" and goal[2] == target]
    if len(together) < 2 or scene.is_object(target):
        return (yield from put_on(scene, name, target))
    picked = yield from pick(scene, name)
    goal = share(
        scene.region(target), [scene.region(other).extent for other in together], together.index(name)
    )
    return picked and (yield from place(scene, name, goal, inside=False))


def pick_for(scene: Scene, name: str, goal: Target) -> Skill:
    """Pick an object up so that the hand has room to let go of it at its goal, too."""
    if (yield from keep(scene, name)):
        return True
    for attempt in range(PICK_ATTEMPTS):
        held = scene.region(name)
        shift = np.array([*(goal.xy - held.center[:2]), goal.surface - held.bottom])
        obstacles = scene.obstacles(excluding=name)
        candidates = grasps(scene, name, limit=12)
        # Sorted by the room there; Python's sort keeps the order among those that have enough.
        candidates.sort(key=lambda grasp: -min(room_at(grasp, shift, obstacles), _ENOUGH_ROOM))
        if (yield from take(scene, name, candidates[attempt // 2 % len(candidates)])):
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
