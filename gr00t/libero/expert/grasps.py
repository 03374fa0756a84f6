"""Where to take hold of an object from above, judged by its collision boxes and by what stands around it.

An object that fits between the fingers is taken across its narrow side; anything else (bowls, plates, mugs)
by its rim, one finger inside. A candidate is scored by how much room fingers and hand have there, and by
small preferences: little turning, a hold near the middle, fingers wide open.

All candidates of an object are scored at once. Shapes: K candidates, P points of the gripper.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gr00t.libero.expert.arm import lean
from gr00t.libero.expert.motion import DOWN, about_z
from gr00t.libero.expert.scene import Array, Boxes, Scene

# The gripper, in metres: travel of one finger, widest object that it spans with a margin.
FINGER_TRAVEL = 0.04
WIDEST = 0.074
# Fingers and hand as balls: heights above the finger tips, offsets along the closing axis (of a finger:
# beyond its inner side), radii.
_FINGER_HEIGHTS, _FINGER_DEPTH, _FINGER_RADIUS = (-0.004, 0.02, 0.045), 0.011, 0.012
_HAND_OFFSETS, _HAND_HEIGHTS, _HAND_RADIUS = (
    (-0.085, -0.045, 0.0, 0.045, 0.085),
    (0.073, 0.12, 0.16, 0.2),
    0.03,
)
# Finger tips go so far below an object's top: deeper than 3.5 cm the palm would press on it.
_DEPTH = 0.033
# What begins above the finger tips and is no narrower there, by so much, hooks on fingers that open: a
# carton's roof hangs on the pads. So that is done only where nothing else is nearly as good.
_LEDGE, _LEDGE_COST, _NEARLY = 0.001, 0.15, 0.12
# What it costs to take an object across more than its narrowest width: it turns in the hand.
_WIDTH_COST = 1.0
# What begins no lower than this below an object's top is a knob on it.
_KNOB_HEIGHT = 0.03
# More room than this is no better.
_ENOUGH_ROOM = 0.006
# Pointing straight down, the arm is almost stretched at this distance from its foot: slow and stiff.
_EASY_REACH, _STRETCH_COST = 0.68, 0.5


@dataclass(frozen=True)
class Grasp:
    """A way to take hold: finger tips at `position` (3,), fingers closing along the axis at angle `yaw`.

    Attributes:
        position: Between the finger tips, metres.
        yaw: Angle of the hand about the vertical, radians; 0 closes along the world's y.
        opening: Distance of each finger from the middle while approaching, metres, at most 0.04.
        room: Distance of the open gripper to the nearest obstacle, metres; negative if it would collide.
    """

    position: Array
    yaw: float
    opening: float
    room: float

    @property
    def rotation(self) -> Array:
        """The hand's orientation, (3, 3)."""
        return about_z(self.yaw) @ DOWN


@dataclass
class _Candidates:
    """Columns of the table of candidates: positions (K, 3), yaws, openings and preference, (K,) each."""

    positions: Array
    yaws: Array
    openings: Array
    preference: Array


def grasps(scene: Scene, name: str, limit: int = 4) -> list[Grasp]:
    """Ways to take hold of an object, the best first, each clearly different from those before it.

    Args:
        scene: As it is now.
        name: A movable object.
        limit: At most so many.
    """
    corners = scene.corners(name)
    obstacles = scene.obstacles(excluding=name)
    narrowest = min(float(np.ptp(corners[:, :2] @ axis)) for axis in _closing_axes(_half_turn()))
    knob = _knob(scene.boxes(name))
    if narrowest < WIDEST and not is_hollow(scene.boxes(name)):
        table = _across(corners, narrowest)
    elif knob is not None:
        table = _across(knob, float(np.ptp(knob[:, :2], axis=0).min()))
    else:
        table = _at_the_rim(corners)
    upright = [about_z(yaw) @ DOWN for yaw in table.yaws]
    leaning = [lean(scene, *pose) for pose in zip(table.positions, upright, strict=True)]
    room = _room(obstacles, table, np.array(leaning))
    reach = np.linalg.norm((table.positions - scene.base_position)[:, :2], axis=1)
    stretch = np.maximum(reach - _EASY_REACH, 0.0) * _STRETCH_COST
    score = np.minimum(room, _ENOUGH_ROOM) * 10.0 + table.preference - stretch
    chosen: list[Grasp] = []
    # A stable sort: equal scores must not be ordered by chance.
    for index in np.argsort(-score, kind="stable"):
        if score[index] < score.max() - _NEARLY:
            break
        grasp = Grasp(
            table.positions[index], float(table.yaws[index]), float(table.openings[index]), float(room[index])
        )
        if all(_differ(grasp, other) for other in chosen):
            chosen.append(grasp)
        if len(chosen) == limit:
            break
    return chosen


def room_at(grasp: Grasp, shift: Array, obstacles: Boxes) -> float:
    """Distance of the gripper to the nearest obstacle when it lets go, `shift` (3,) away from the grasp."""
    row = _table([(*(grasp.position + shift), grasp.yaw, grasp.opening, 0.0)])
    return float(_room(obstacles, row, grasp.rotation[None])[0])


def is_hollow(boxes: Boxes) -> bool:
    """Whether an object is open at its top: nothing is near the middle of it just below its upper edge."""
    corners = boxes.corners()
    low, high = corners.min(axis=0), corners.max(axis=0)
    middle = (low + high) / 2
    middle[2] = high[2] - 0.005
    return bool(boxes.distances(middle[None])[0] > 0.012)


def _knob(boxes: Boxes) -> Array | None:
    """Corners (C, 3) of what sticks out at the top of an object, if it can be gripped: the knob of a lid."""
    corners = boxes.corners().reshape(-1, 8, 3)
    high = float(corners[..., 2].max())
    knob = corners[corners[..., 2].min(axis=1) > high - _KNOB_HEIGHT].reshape(-1, 3)
    if not len(knob) or knob[:, 2].max() < high - 0.002 or np.ptp(knob[:, :2], axis=0).max() > WIDEST:
        return None
    return knob


def _across(corners: Array, narrowest: float) -> _Candidates:
    """Fingers on both sides of the narrow direction, at several places along."""
    low, high = corners.min(axis=0), corners.max(axis=0)
    center, height = ((low + high) / 2)[:2], float(high[2] - low[2])
    outline = corners[:, :2] - center
    boxes = corners.reshape(-1, 8, 3)
    level = max(low[2] + 0.012, high[2] - min(_DEPTH, height / 2))
    above = boxes[boxes[..., 2].min(axis=1) > level].reshape(-1, 3)[:, :2] - center
    rows = []
    yaws = _half_turn()
    for yaw, axis in zip(yaws, _closing_axes(yaws), strict=True):
        across = outline @ axis
        width = float(np.ptp(across))
        if width > min(WIDEST, narrowest + 0.006):
            continue
        has_ledge = len(above) > 0 and float(np.ptp(above @ axis)) > width - _LEDGE
        cost = _LEDGE_COST * has_ledge + _WIDTH_COST * (width - narrowest)
        along = np.array([axis[1], -axis[0]])
        length = float(np.ptp(outline @ along))
        middle = center + axis * (across.max() + across.min()) / 2
        # Off the middle only where the object is long enough to hold on to.
        shifts = (0.0, 0.25, -0.25, 0.45, -0.45) if length >= width + 0.015 else (0.0,)
        openings = (
            (FINGER_TRAVEL, width / 2 + 0.013) if width / 2 + 0.013 < FINGER_TRAVEL else (FINGER_TRAVEL,)
        )
        for shift in shifts:
            place = middle + along * shift * length / 2
            for opening in openings:
                preference = -0.012 * abs(yaw) - 0.03 * abs(shift) - 0.01 * (opening < FINGER_TRAVEL)
                rows.append((*place, level, yaw, opening, preference - cost))
    return _table(rows)


def _at_the_rim(corners: Array) -> _Candidates:
    """One finger inside the rim, all around it."""
    low, high = corners.min(axis=0), corners.max(axis=0)
    center = ((low + high) / 2)[:2]
    rim = corners[corners[:, 2] > high[2] - 0.012, :2]
    radius = float(np.median(np.linalg.norm(rim - center, axis=1))) - 0.002
    rows = []
    angles = np.linspace(-np.pi, np.pi, 17)[:-1]
    for angle, axis in zip(angles, _closing_axes(angles), strict=True):
        place = center + radius * axis
        # The gripper is symmetric: the smaller of the two turns.
        yaw = (angle + np.pi / 2) % np.pi - np.pi / 2
        for opening in (FINGER_TRAVEL, 0.022):
            preference = -0.012 * abs(yaw) - 0.012 * (opening < FINGER_TRAVEL) - 0.02 * (axis[1] < -0.5)
            rows.append((*place, high[2] - 0.022, yaw, opening, preference))
    return _table(rows)


def _room(obstacles: Boxes, table: _Candidates, rotations: Array) -> Array:
    """Distance of fingers and hand to the nearest obstacle for each candidate, (K,), turned so (K, 3, 3)."""
    axes, ups = rotations[:, :, 0], -rotations[:, :, 2]
    reach = table.openings + _FINGER_DEPTH
    balls, radii = [], []
    for side in (-1.0, 1.0):
        for height in _FINGER_HEIGHTS:
            balls.append(table.positions + side * reach[:, None] * axes + height * ups)
            radii.append(_FINGER_RADIUS)
    for offset in _HAND_OFFSETS:
        for height in _HAND_HEIGHTS:
            balls.append(table.positions + offset * axes + height * ups)
            radii.append(_HAND_RADIUS)
    points = np.stack(balls, axis=1)
    distances = obstacles.distances(points.reshape(-1, 3)).reshape(points.shape[:2])
    return np.asarray((distances - np.array(radii)).min(axis=1))


def _half_turn() -> Array:
    """Angles that cover every direction of a symmetric gripper, 7.5 degrees apart, from -60 degrees on.

    What lies across is taken at about 90 degrees. Did the angles begin at -90, two that are almost the same
    to the object would be half a turn apart for the arm, and chance would take one or the other: no policy
    learns that from demonstrations.
    """
    return np.linspace(-np.pi / 3, 2 * np.pi / 3, 25)[:-1]


def _closing_axes(yaws: Array) -> Array:
    """Horizontal directions in which the fingers close, (K, 2)."""
    return np.stack([-np.sin(yaws), np.cos(yaws)], axis=1)


def _table(rows: list[tuple[float, ...]]) -> _Candidates:
    columns = np.array(rows, dtype=np.float64)
    return _Candidates(columns[:, :3], columns[:, 3], columns[:, 4], columns[:, 5])


def _differ(one: Grasp, other: Grasp) -> bool:
    apart = one.position - other.position
    far = float(np.linalg.norm(apart[:2])) > 0.012 or abs(float(apart[2])) > 0.015
    return far or abs(one.yaw - other.yaw) > 0.5
