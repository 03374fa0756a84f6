"""Motions of the scripted expert: from where the hand is to where it should be, one action at a time.

A skill is a generator: it yields an action, the caller executes it (or something near it) and asks for the
next one, which is computed from what the scene looks like by then. So a skill corrects whatever disturbed the
last step, whether noise or a collision, and two skills in a row are two `yield from`. Its return value says
whether it believes that it worked. Nobody raises to stop: the caller simply asks no more.

An action is (7,): translation and rotation of the hand in [-1, 1], which the controller takes as up to 5 cm
and 0.5 rad, both in the world's frame, and the gripper: -1 opens, 1 closes, 0 leaves the fingers where they
are.
"""

from __future__ import annotations

from collections.abc import Generator

import numpy as np

from gr00t.libero.expert.arm import is_snapped, lean, unfold, upright
from gr00t.libero.expert.scene import Array, Scene

Action = Array
Skill = Generator[Action, None, bool]

OPEN, STAY, CLOSE = -1.0, 0.0, 1.0
# The hand pointing straight down, fingers closing along the world's y.
DOWN = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])

_GAIN = 14.0
_TURN_GAIN, _TURN_LIMIT = 2.0, 0.6
# A motion that makes less headway than this, for so many steps, has met something.
_STALL_DISTANCE, _STALL_STEPS = 4e-4, 8
# What both fingers have not touched for so many steps has been lost.
_LOST_STEPS = 3
# Slower than this, metres per second, an object rests; this long is waited for it.
_RESTING, _SETTLING_STEPS = 0.01, 30
# A hand that comes from above is tilted by less than this, radians.
_TILTED = 0.5
# An elbow that was pushed over takes about ten steps.
_STRAIGHTENING_STEPS = 25
# Speed limits hold over the last centimetres of height only, so that they cost little time.
_SLOW_HEIGHT = 0.06
# A funnel's half width at its bottom and where it is at its full height.
_FUNNEL_BOTTOM, _FUNNEL_TOP = 0.008, 0.03


def move(
    scene: Scene,
    position: Array,
    rotation: Array | None = None,
    *,
    gripper: float,
    tolerance: float = 0.006,
    turn_tolerance: float = 0.06,
    max_steps: int = 60,
    max_speed: float = 1.0,
    funnel: float = 0.0,
    holding: str = "",
) -> Skill:
    """Bring the hand to a pose in a straight line, or from above through a funnel.

    Args:
        scene: Read before every step.
        position: Where the point between the finger tips shall be, (3,) in metres.
        rotation: The hand's orientation, (3, 3); None keeps the one that was last commanded.
        gripper: Command for the fingers meanwhile.
        tolerance: Distance that counts as arrived, metres.
        turn_tolerance: Angle that counts as arrived, radians.
        max_steps: Steps after which it gives up.
        max_speed: Limit on the vertical command over the last 6 cm of height.
        funnel: How much higher to keep while the hand is 3 cm or more beside the position, metres; less in
            proportion nearer by, nothing from 0.8 cm on. A hand that was pushed aside rises as it returns.
        holding: An object that is in the hand; where it has been lost there is no point in going on.

    Returns:
        Whether it arrived; False after `max_steps`, when something holds the hand, or without `holding`.
    """
    last = np.full(3, np.inf)
    stalled = lost = 0
    for _ in range(max_steps):
        lost = lost + 1 if holding and scene.in_hand() != holding else 0
        if lost >= _LOST_STEPS:
            return False
        if is_snapped(scene):
            yield from straighten(scene, gripper)
        here = scene.hand_position
        way = position - here
        turn = np.zeros(3)
        if rotation is not None:
            ahead = here + way * min(1.0, 1.0 / _GAIN / max(float(np.linalg.norm(way)), 1e-9))
            turn = rotation_vector(lean(scene, ahead, rotation) @ scene.hand_rotation.T)
        angle = float(np.linalg.norm(turn))
        if np.linalg.norm(way) < tolerance and angle < turn_tolerance:
            return True
        slow = np.linalg.norm(here - last) < _STALL_DISTANCE and angle < 2 * turn_tolerance
        stalled = stalled + 1 if slow else 0
        if stalled >= _STALL_STEPS:
            return False
        last = here
        beside = float(np.linalg.norm(way[:2]))
        way[2] += funnel * np.clip((beside - _FUNNEL_BOTTOM) / (_FUNNEL_TOP - _FUNNEL_BOTTOM), 0.0, 1.0)
        yield motion(way, turn, gripper, max_speed if abs(way[2]) < _SLOW_HEIGHT else 1.0)
    return False


def straighten(scene: Scene, gripper: float) -> Skill:
    """Bring an elbow back that was pushed over; returns whether it is."""
    for _ in range(_STRAIGHTENING_STEPS):
        motions = unfold(scene)
        if motions is None:
            return True
        yield np.append(motions, gripper)
    return False


def lift(
    scene: Scene,
    height: float,
    rotation: Array | None = None,
    *,
    gripper: float,
    max_speed: float = 1.0,
    holding: str = "",
) -> Skill:
    """Raise the hand straight up until it is `height` metres above the world's floor; never lowers it.

    Without `rotation` a hand that comes from above is set upright, any other stays as it is.
    """
    here = scene.hand_position
    if rotation is None and scene.hand_rotation[2, 2] < -np.cos(_TILTED):
        rotation = upright(scene.hand_rotation)
    above = np.array([here[0], here[1], max(here[2], height)])
    return (
        yield from move(
            scene,
            above,
            rotation,
            gripper=gripper,
            tolerance=0.015,
            turn_tolerance=np.inf,
            max_steps=30,
            max_speed=max_speed,
            holding=holding,
        )
    )


def hold(
    scene: Scene, gripper: float, steps: int, *, at: Array | None = None, rotation: Array | None = None
) -> Skill:
    """Keep the hand still for a number of steps while the fingers move; returns True.

    Args:
        scene: Read before every step.
        gripper: Command for the fingers.
        steps: How many.
        at: Where to keep it, (3,). None commands no motion, which lets it drift: the controller counts every
            command from where the hand is by then.
        rotation: Orientation to keep, (3, 3); None commands no rotation.
    """
    for _ in range(steps):
        way = np.zeros(3) if at is None else at - scene.hand_position
        turn = np.zeros(3) if rotation is None else rotation_vector(rotation @ scene.hand_rotation.T)
        yield motion(way, turn, gripper)
    return True


def settle(scene: Scene) -> Skill:
    """Wait with open fingers until nothing moves, if the hand is empty; returns whether nothing does.

    In some of libero_10's initial states objects overlap: they jump apart, and land half a second after the
    steps that evaluations allow for settling. What the fingers have just let go of, or knocked over, rolls.
    """
    for _ in range(_SETTLING_STEPS):
        if scene.in_hand() is not None or scene.fastest_object() < _RESTING:
            return True
        yield from hold(scene, OPEN, 1)
    return False


def motion(way: Array, turn: Array, gripper: float, max_speed: float = 1.0) -> Action:
    """The action that heads along `way` (3,) and `turn` (3,), proportional to what is left of them."""
    action = np.empty(7)
    action[:3] = np.clip(way * _GAIN, -1.0, 1.0)
    action[2] = np.clip(action[2], -max_speed, max_speed)
    action[3:6] = np.clip(turn * _TURN_GAIN, -_TURN_LIMIT, _TURN_LIMIT)
    action[6] = gripper
    return action


def rotation_vector(rotation: Array) -> Array:
    """Axis times angle of a rotation matrix, (3,), the angle in [0, pi]."""
    angle = float(np.arccos(np.clip((np.trace(rotation) - 1.0) / 2.0, -1.0, 1.0)))
    if angle < 1e-6:
        return np.zeros(3)
    skew = np.array(
        [
            rotation[2, 1] - rotation[1, 2],
            rotation[0, 2] - rotation[2, 0],
            rotation[1, 0] - rotation[0, 1],
        ]
    )
    if np.pi - angle < 1e-3:
        # The antisymmetric part vanishes at half a turn: it still tells the axis' direction, but no longer
        # the axis, which is the eigenvector of eigenvalue 1 of the rest.
        axis = np.linalg.eigh((rotation + rotation.T) / 2.0)[1][:, -1]
        return np.asarray(axis * (-angle if axis @ skew < 0 else angle))
    return skew * (angle / (2.0 * np.sin(angle)))


def about_z(angle: float) -> Array:
    """Rotation by `angle` about the vertical, (3, 3)."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
