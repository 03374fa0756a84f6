"""Where the objects of a task come to rest when nobody touches them.

From the recorded initial states of LIBERO everything first falls or slides a little, or rises out of the
table. Where it ends, and when, depends on the physics engine: in another version a bowl hangs beside what it
stood on, or cartons are still in the air when an evaluation begins, and the task is then another one under
the same name (`resting_poses`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gr00t.libero.simulator.libero_environment import computed_once
from gr00t.libero.simulator.simulator import IDLE_ACTION, SETTLING_STEPS, LiberoSimulator
from gr00t.libero.tasks.suites import load_init_states

# Control steps from the recorded state on, three seconds: an evaluation waits for the first SETTLING_STEPS.
STEPS = 60


class Rest(NamedTuple):
    """How one object came to rest, from each of S initial states.

    Attributes:
        position: Of the object's origin, metres, (S, 3).
        tilt: Angle between the vertical and the axis of the object that was most upright in the recorded
            state, degrees, (S,).
        drift: How far this is from where it was when an evaluation begins, metres, (S,).
    """

    position: NDArray[np.float64]
    tilt: NDArray[np.float64]
    drift: NDArray[np.float64]


def settle(simulator: LiberoSimulator, init_states: Sequence[int]) -> dict[str, Rest]:
    """Let the open task of `simulator` come to rest from each of its `init_states`; by object.

    Every movable object is looked at. The robot stands still, as in the first steps of an evaluation.
    """
    env = simulator.env
    recorded = load_init_states(simulator.task)
    joints = {name: thing.joints[0] for name, thing in env.env.objects_dict.items()}
    # A recorded state is the time, then the positions.
    starts = [1 + env.sim.model.get_joint_qpos_addr(joint)[0] for joint in joints.values()]

    def poses() -> NDArray[np.float64]:
        return np.array([env.sim.data.get_joint_qpos(joint) for joint in joints.values()])

    seen = []
    for state in init_states:
        simulator.settle(state)
        begun = poses()
        for _ in range(SETTLING_STEPS, STEPS):
            with computed_once(env.sim):
                env.step(np.asarray(IDLE_ACTION))
        seen.append([[recorded[state][start : start + 7] for start in starts], begun, poses()])
    stored, begun, after = np.moveaxis(np.array(seen), 0, 2)  # (objects, S, 7) each
    tilts = _tilts(stored[..., 3:], after[..., 3:])
    drifts = np.linalg.norm(after[..., :3] - begun[..., :3], axis=-1)
    return {name: Rest(after[index, :, :3], tilts[index], drifts[index]) for index, name in enumerate(joints)}


def _tilts(stored: NDArray[np.float64], now: NDArray[np.float64]) -> NDArray[np.float64]:
    """Angle of the axis that was most upright when `stored`, `now`: quaternions (..., 4) -> degrees (...)."""
    upright, lies = _vertical_parts(stored), _vertical_parts(now)
    axis = np.abs(upright).argmax(axis=-1)[..., None]
    cosine = np.take_along_axis(lies * np.sign(upright), axis, axis=-1)[..., 0]
    return np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))


def _vertical_parts(quaternions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Vertical component of each of the three axes: quaternions (..., 4), w first -> (..., 3)."""
    unit = quaternions / np.linalg.norm(quaternions, axis=-1, keepdims=True)
    w, x, y, z = np.moveaxis(unit, -1, 0)
    return np.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], axis=-1)
