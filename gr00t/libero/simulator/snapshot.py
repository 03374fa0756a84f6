"""Everything that LIBERO's next control step depends on, taken from an environment and put back.

MuJoCo's state is not all of it: the arm's controller keeps a goal, the gripper the command that it is on its
way to, and robosuite's sensors when they are to be read next.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gr00t.libero.expert.lifted import Lifted

_PLAIN = (np.ndarray, float, int, bool, str, list, tuple, type(None))


@dataclass(frozen=True)
class Snapshot:
    """Of an environment between two control steps; as plain data, which may travel to other processes.

    Attributes:
        state: MuJoCo's, all that a step depends on besides the model.
        controller: what the arm's controller remembers.
        gripper: the command that the fingers are on their way to.
        torques: the arm's last ones.
        clock: robosuite's number of the step, time, and whether the episode is over.
        sensors: what each sensor remembers; None: they begin anew.
    """

    state: NDArray[np.float64]
    controller: dict[str, Any]
    gripper: Any
    torques: Any
    clock: tuple[int, float, bool]
    sensors: dict[str, dict[str, Any]] | None


class Moment(NamedTuple):
    """The snapshot before an action of an episode, and the action.

    Attributes:
        task: suite, number and placement seed of the task.
        before: the environment.
        action: (7,) float64, what was done then.
        steps: control steps of the episode before the action.
        lifted: what was known of wrong objects.
    """

    task: tuple[str, int, int]
    before: Snapshot
    action: NDArray[np.float64]
    steps: int
    lifted: Lifted


def take_snapshot(env: Any, *, with_sensors: bool = False) -> Snapshot:
    """Take one of LIBERO's `ControlEnv`, between two control steps.

    Args:
        env: It.
        with_sensors: Of a running episode; not where one is to begin.
    """
    import mujoco

    inner, model = env.env, env.sim.model._model
    robot = inner.robots[0]
    state = np.empty(mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION))
    mujoco.mj_getState(model, env.sim.data._data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
    sensors = None
    if with_sensors:
        sensors = {name: _plain_attributes(sensor) for name, sensor in inner._observables.items()}
    return Snapshot(
        state=state,
        controller=_plain_attributes(robot.controller),
        gripper=copy.deepcopy(robot.gripper.current_action),
        torques=copy.deepcopy(robot.torques),
        clock=(inner.timestep, inner.cur_time, inner.done) if with_sensors else (0, 0.0, False),
        sensors=sensors,
    )


def restore(env: Any, snapshot: Snapshot) -> None:
    """Put a snapshot back into the environment that it is of, or that has its task open."""
    import mujoco

    inner, sim = env.env, env.sim
    model, data = sim.model._model, sim.data._data
    # Warnings of a diverged episode, too, are forgotten here.
    mujoco.mj_resetData(model, data)
    mujoco.mj_setState(model, data, snapshot.state, mujoco.mjtState.mjSTATE_INTEGRATION)
    robot = inner.robots[0]
    vars(robot.controller).update(copy.deepcopy(snapshot.controller))
    robot.gripper.current_action = copy.deepcopy(snapshot.gripper)
    robot.torques = copy.deepcopy(snapshot.torques)
    inner.timestep, inner.cur_time, inner.done = snapshot.clock
    for name, sensor in inner._observables.items():
        if snapshot.sensors is None:
            sensor.reset()
        else:
            vars(sensor).update(copy.deepcopy(snapshot.sensors[name]))


def _plain_attributes(thing: object) -> dict[str, Any]:
    return {name: copy.deepcopy(value) for name, value in vars(thing).items() if isinstance(value, _PLAIN)}
