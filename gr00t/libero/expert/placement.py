"""Wide placements: the objects of an initial state moved about, so that nothing can be learned by heart.

LIBERO's initial states put each object within a few centimetres of one place. One expert episode, replayed
without looking, then solves two thirds of the tasks of a scene. Here every object that stands free is moved
by up to `REACH` along x and y, so that a policy has to look. A placement counts if the objects stay where
they were put, and if the scripted expert solves the task from there.

What stands on or leans against something else stays, and so do fixtures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gr00t.libero.expert.expert import plan
from gr00t.libero.expert.motion import OPEN, Action
from gr00t.libero.expert.scene import Scene
from gr00t.libero.tasks.suites import LiberoError

PLACEMENTS = ("recorded", "wide")
REACH = 0.08
# Between the circles around two objects: room for a finger.
GAP = 0.015
_TRIES = 200
_ATTEMPTS = 20
_SETTLING_STEPS = 15
# What is put down by the side of where it stood sinks by fractions of a millimetre; what topples goes far.
_DRIFT = 0.01
# The expert needs at most 240 steps for what it solves in libero_spatial, and fewer in libero_object.
_SOLVABLE_WITHIN = 300

Circle = tuple[NDArray[np.float64], float]


class PlacementError(LiberoError):
    """No placement was found for an initial state."""


def place_widely(
    env: Any,
    begin: Callable[[], None],
    act: Callable[[Action], None],
    seeds: list[int],
    attempt: int | None = None,
    prove: bool = True,
) -> int:
    """Bring `env` into a wide placement, at rest.

    Args:
        env: LIBERO's `ControlEnv`.
        begin: Brings it into the recorded initial state, at rest.
        act: Executes an action (7,).
        seeds: Seed the draws, together with the number of the attempt.
        attempt: What an earlier call returned for the same initial state and seeds: it is then not proven
            anew that the expert solves it.
        prove: Whether the expert must solve it; who plays the expert anyway will see.

    Returns:
        The attempt that counted.

    Raises:
        PlacementError: none did.
    """
    for number in range(_ATTEMPTS) if attempt is None else [attempt]:
        if not _spread(env, begin, act, [*seeds, number]):
            continue
        if attempt is None and prove:
            if not _expert_solves(env, act):
                continue
            _spread(env, begin, act, [*seeds, number])
        return number
    raise PlacementError(f"wide placements: none of {_ATTEMPTS} placements could be solved")


def _spread(env: Any, begin: Callable[[], None], act: Callable[[Action], None], seeds: list[int]) -> bool:
    """Scatter the objects, let them settle; whether they stayed."""
    begin()
    moved = scatter(env, np.random.default_rng(seeds))
    scene = Scene(env)
    before = [scene.object_position(name) for name in moved]
    for _ in range(_SETTLING_STEPS):
        act(np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, OPEN]))
    drifts = [
        np.linalg.norm(scene.object_position(name) - old) for name, old in zip(moved, before, strict=True)
    ]
    return bool(max(drifts) < _DRIFT)


def _expert_solves(env: Any, act: Callable[[Action], None]) -> bool:
    for steps, action in enumerate(plan(Scene(env))):
        if steps == _SOLVABLE_WITHIN:
            return False
        act(action)
        if env.check_success():
            return True
    return False


def scatter(env: Any, random: np.random.Generator) -> list[str]:
    """Move the free objects of `env`, LIBERO's `ControlEnv` at rest in an initial state; return their names.

    The objects keep height, orientation and zero velocity. The caller lets them settle and checks.

    Raises:
        PlacementError: no object is free, or their new places never fitted together.
    """
    scene = Scene(env)
    moved = free_objects(env)
    if not moved:
        raise PlacementError("wide placements: no object of this task stands free, none can be moved")
    circles = {name: footprint(scene, name) for name in scene.objects}
    fixed = [circle for name, circle in circles.items() if name not in moved]
    for _ in range(_TRIES):
        places = draw_places([circles[name] for name in moved], fixed, random)
        if places is not None:
            break
    else:
        raise PlacementError(f"wide placements: {_TRIES} draws gave none without a collision")
    data = env.sim.data
    for name, place in zip(moved, places, strict=True):
        joint = env.env.objects_dict[name].joints[0]
        pose = np.array(data.get_joint_qpos(joint))
        pose[:2] += place - circles[name][0]
        data.set_joint_qpos(joint, pose)
        data.set_joint_qvel(joint, np.zeros(6))
    env.sim.forward()
    return moved


def draw_places(
    moved: list[Circle], fixed: list[Circle], random: np.random.Generator
) -> list[NDArray[np.float64]] | None:
    """Draw a new centre for each circle within a square of `REACH` around the old one.

    Returns:
        The centres (2,), at least `GAP` between any two circles; None if one did not fit in.
    """
    standing = list(fixed)
    places = []
    for center, radius in moved:
        for _ in range(_TRIES):
            place = center + random.uniform(-REACH, REACH, 2)
            if all(np.linalg.norm(place - other) >= radius + r + GAP for other, r in standing):
                break
        else:
            return None
        standing.append((place, radius))
        places.append(place)
    return places


def free_objects(env: Any) -> list[str]:
    """Movable objects that touch no other object or fixture, in the order of the task's description."""
    model, data = env.sim.model._model, env.sim.data._data
    roots = {int(body): name for name, body in env.env.obj_body_id.items()}
    touching: set[str] = set()
    for contact in data.contact:
        first, second = (
            roots.get(int(model.body_rootid[model.geom_bodyid[geom]]))
            for geom in (contact.geom1, contact.geom2)
        )
        if first is not None and second is not None and first != second:
            touching |= {first, second}
    return [name for name in env.env.objects_dict if name not in touching]


def footprint(scene: Scene, name: str) -> Circle:
    """The circle around an object seen from above: centre (2,) and radius."""
    corners = scene.corners(name)[:, :2]
    center = (corners.min(axis=0) + corners.max(axis=0)) / 2
    return center, float(np.linalg.norm(corners - center, axis=1).max())
