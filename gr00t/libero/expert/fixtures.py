"""Skills on fixtures with a joint: drawers that slide, knobs that turn.

All targets come from the live scene: which way a drawer opens is its joint's axis, its handle is the box that
sticks out furthest that way, a knob's ridge is its highest box. So one skill serves every drawer of every
cabinet, wherever reset has put it.
"""

from __future__ import annotations

import numpy as np

from gr00t.libero.expert.arm import turn_about
from gr00t.libero.expert.motion import CLOSE, OPEN, Skill, hold, lift, move
from gr00t.libero.expert.scene import Array, Boxes, Joint, Scene

UP = np.array([0.0, 0.0, 1.0])
# Fingers are open after this many steps of the command.
_OPEN_STEPS = 5
# Fingers that close less than this in a step have met something; they start slowly.
_STILL, _LEAST_STEPS, _MOST_STEPS = 5e-4, 6, 25
# Slope of the hand at a handle. Level would do, but for a low drawer the hand, 20 cm wide, meets the table.
_PULL_SLOPE = 0.2
# A shut hand that pushes is 6 cm high and 5 cm behind its tips: it must come from above to reach the lowest
# drawer, and not from straight above, where the handles of the upper drawers are in its way.
_PUSH_SLOPE = 0.6
# Two centimetres below a knob's top the pads, 17 mm high, hold all of its ridge; deeper, the finger tips meet
# the disc that it stands on.
_KNOB_DEPTH = 0.02
_KNOB_TURN = 1.2


def open_drawer(scene: Scene, region: str) -> Skill:
    """Pull the drawer that carries `region` open, by its handle.

    Returns:
        Whether it is open; False also where nothing slides.
    """
    joint = scene.joint(region)
    if joint is None or not joint.slides:
        return False
    out = outwards(joint)
    handle, along = handle_of(joint)
    approach = sloping(-out, _PULL_SLOPE)
    rotation = hand_frame(approach, np.cross(along, approach), scene.hand_rotation)
    # From above and in front, so that the fingers pass the handles of the other drawers.
    before = handle + 0.1 * out
    yield from move(scene, before + 0.15 * UP, rotation, gripper=OPEN, tolerance=0.03, max_steps=80)
    yield from move(scene, before, rotation, gripper=OPEN, tolerance=0.012)
    yield from move(scene, handle, rotation, gripper=OPEN, tolerance=0.004, max_steps=40)
    yield from grip(scene)
    # Five centimetres beyond the end, so that the hand still pulls there; the drawer's limit stops it.
    far = scene.hand_position + out * (abs(joint.end - joint.position) + 0.05)
    yield from move(scene, far, rotation, gripper=CLOSE, max_steps=70)
    yield from hold(scene, OPEN, _OPEN_STEPS)
    yield from move(scene, scene.hand_position + 0.06 * out, rotation, gripper=OPEN, tolerance=0.015)
    yield from lift(scene, scene.hand_position[2] + 0.12, gripper=OPEN)
    return scene.holds(["open", region])


def close_drawer(scene: Scene, region: str) -> Skill:
    """Push the drawer that carries `region` shut, with shut fingers against its handle.

    Returns:
        Whether it is shut; False also where nothing slides.
    """
    joint = scene.joint(region)
    if joint is None or not joint.slides:
        return False
    out = outwards(joint)
    handle, along = handle_of(joint)
    approach = sloping(-out, _PUSH_SLOPE)
    rotation = hand_frame(approach, along, scene.hand_rotation)
    before = handle + 0.08 * out
    yield from lift(scene, handle[2] + 0.25, gripper=OPEN)
    yield from move(scene, before + 0.25 * UP, rotation, gripper=CLOSE, tolerance=0.03, max_steps=80)
    yield from move(scene, before, rotation, gripper=CLOSE, tolerance=0.012)
    # The end of the push lies inside the cabinet: contact, not distance, presses the last millimetre home.
    home = handle - out * (abs(joint.position) + 0.05)
    yield from move(scene, home, rotation, gripper=CLOSE, max_steps=80)
    yield from move(scene, scene.hand_position + 0.08 * out, rotation, gripper=CLOSE, tolerance=0.015)
    return scene.holds(["close", region])


def turn_on(scene: Scene, fixture: str) -> Skill:
    """Turn the knob of `fixture` towards the far end of its range, holding its ridge.

    Returns:
        Whether it is on.
    """
    joint = scene.joint(fixture)
    if joint is None or joint.slides:
        return False
    top, across = ridge_of(joint.boxes)
    place = np.array([joint.anchor[0], joint.anchor[1], top - _KNOB_DEPTH])
    rotation = hand_frame(-UP, across, scene.hand_rotation)
    turned = turn_about(joint.axis, _KNOB_TURN * np.sign(joint.end)) @ rotation
    yield from lift(scene, top + 0.1, gripper=OPEN)
    yield from move(scene, place + 0.1 * UP, rotation, gripper=OPEN, tolerance=0.012, max_steps=80)
    yield from move(scene, place, rotation, gripper=OPEN, tolerance=0.004, max_steps=40, max_speed=0.5)
    yield from grip(scene)
    yield from move(scene, place, turned, gripper=CLOSE, tolerance=0.03, max_steps=40)
    yield from hold(scene, OPEN, _OPEN_STEPS)
    yield from lift(scene, top + 0.15, gripper=OPEN)
    return scene.holds(["turnon", fixture])


def grip(scene: Scene) -> Skill:
    """Close the fingers until they stop, on something or on each other; returns True."""
    last = np.inf
    for step in range(_MOST_STEPS):
        opening = scene.finger_opening
        if step >= _LEAST_STEPS and last - opening < _STILL:
            break
        last = opening
        yield from hold(scene, CLOSE, 1)
    return True


def outwards(joint: Joint) -> Array:
    """The direction in which a slide opens, (3,), unit length."""
    return joint.axis * np.sign(joint.end)


def handle_of(joint: Joint) -> tuple[Array, Array]:
    """Centre of a drawer's handle and the direction it runs along, (3,) each.

    The handle is the box that sticks out furthest; its longest side is the direction.
    """
    boxes = joint.boxes
    index = int(np.argmax(boxes.centers @ outwards(joint)))
    return boxes.centers[index], boxes.rotations[index][:, int(np.argmax(boxes.halves[index]))]


def ridge_of(boxes: Boxes) -> tuple[float, Array]:
    """Height of a knob's top, and the horizontal direction across the ridge there, (3,)."""
    extents = np.einsum("bij,bj->bi", np.abs(boxes.rotations), boxes.halves)
    index = int(np.argmax(boxes.centers[:, 2] + extents[:, 2]))
    # Of the box's three axes one is upright; of the other two the shorter leads across.
    rotation = boxes.rotations[index]
    level = np.argsort(np.abs(rotation[2]))[:2]
    across = rotation[:, level[np.argmin(boxes.halves[index][level])]]
    return float(boxes.centers[index, 2] + extents[index, 2]), across


def sloping(direction: Array, slope: float) -> Array:
    """A horizontal unit vector (3,) turned downwards by `slope` radians."""
    return np.asarray(np.cos(slope) * direction - np.sin(slope) * UP)


def hand_frame(approach: Array, closing: Array, near: Array) -> Array:
    """Orientation of a hand that points along `approach` and whose fingers close along `closing`, (3, 3).

    Args:
        approach: Unit vector, (3,).
        closing: Not parallel to `approach`, (3,); the part across it counts, and not its sign.
        near: An orientation (3, 3). The fingers look the same after half a turn, so that of the two hands
            is chosen which takes less turning from here.
    """
    across = closing - approach * (closing @ approach)
    across /= np.linalg.norm(across)
    one = np.stack([across, np.cross(approach, across), approach], axis=1)
    other = one * np.array([-1.0, -1.0, 1.0])
    return one if np.trace(one @ near.T) >= np.trace(other @ near.T) else other
