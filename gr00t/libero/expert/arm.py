"""How far the arm reaches, so that it never gets stretched: there the elbow snaps over and the hand is stuck.

The Panda's elbow lies beside the line from shoulder to wrist. Bent less and less, the arm is longest at
`_STRAIGHT`, not at the elbow's limit of -0.07 rad; between the two it folds the wrong way, and pulling the
hand in presses the elbow against its limit instead of bending it. So the hand leans outwards where it would
have to be further out, and an elbow that was pushed over all the same is brought back first.
"""

from __future__ import annotations

import numpy as np

from gr00t.libero.expert.scene import Array, Scene

# In metres: the shoulder above the arm's foot; the wrist behind the finger tips, towards the foot, and above
# them, when the hand points straight down; and from shoulder to wrist, of 0.719 at most.
_SHOULDER, _BEHIND, _ABOVE, _REACH = 0.333, 0.088, 0.204, 0.680
# Angles of the elbow, radians: where the arm is longest, and bent well enough.
_STRAIGHT, _BENT = -0.467, -0.6
# How far a hand may be turned out of the vertical and still count as one that comes from above.
_UPRIGHT = 0.02
_LEANS = np.linspace(0.0, 0.6, 61)


def lean(scene: Scene, position: Array, rotation: Array) -> Array:
    """An upright hand's orientation (3, 3), turned outwards as far as it takes to reach `position` (3,).

    Args:
        scene: Says where the arm's foot is.
        position: Of the finger tips.
        rotation: What is wanted, (3, 3); returned as it is unless it points straight down.
    """
    if rotation[2, 2] > -np.cos(_UPRIGHT):
        return rotation
    way = position - scene.base_position
    distance = float(np.linalg.norm(way[:2]))
    sine, cosine = np.sin(_LEANS), np.cos(_LEANS)
    out = distance - _BEHIND * cosine - _ABOVE * sine
    up = way[2] - _SHOULDER + _ABOVE * cosine - _BEHIND * sine
    stretch = np.hypot(out, up)
    enough = stretch <= _REACH
    angle = _LEANS[np.argmax(enough) if enough.any() else np.argmin(stretch)]
    # Outwards: about the horizontal axis to the left of the way, against its sense.
    return turn_about(_left(way), -float(angle)) @ rotation


def upright(rotation: Array) -> Array:
    """The hand pointing straight down, turned about the vertical as it is in `rotation`, (3, 3)."""
    sine, cosine = -rotation[0, 0], rotation[1, 0]
    across = np.array([-sine, cosine, 0.0]) / np.hypot(sine, cosine)
    return np.stack([across, np.array([across[1], -across[0], 0.0]), [0.0, 0.0, -1.0]], axis=1)


def is_snapped(scene: Scene, limit: float = _STRAIGHT + 0.1) -> bool:
    """Whether the elbow is on the wrong side of straight."""
    return scene.elbow > limit


def unfold(scene: Scene) -> Array | None:
    """Translation and rotation (6,) that bring an elbow back that has snapped over; None once it is bent.

    Pushed outwards, and the hand turned inwards, the elbow passes straight and bends on the right side.
    """
    if scene.elbow <= _BENT:
        return None
    way = scene.hand_position - scene.base_position
    out = np.array([*(way[:2] / np.linalg.norm(way[:2])), 0.6])
    return np.concatenate([out, 0.6 * _left(way)])


def turn_about(axis: Array, angle: float) -> Array:
    """Rotation by `angle` about a unit vector (3,), as a matrix (3, 3)."""
    x, y, z = axis
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * cross @ cross)


def _left(way: Array) -> Array:
    """The horizontal direction to the left of a way (3,), unit length."""
    return np.array([-way[1], way[0], 0.0]) / np.linalg.norm(way[:2])
