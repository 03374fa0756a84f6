"""Run inside a simulator's process: play tasks of any suite with given assets, print what happened as JSON.

    standins_in_simulator.py ASSETS MEASUREMENT SUITE:TASK...

The tests hold the oracles.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gr00t.libero.simulator.simulator import IDLE_ACTION, LiberoSimulator
from gr00t.libero.tasks.suites import Task, find_suite, libero_package, load_init_states, load_tasks


def random_actions(seed: int, count: int) -> NDArray[np.float64]:
    """Bounded motions of the arm and of the gripper, (count, 7)."""
    actions = np.clip(np.random.default_rng(seed).normal(0, 0.5, (count, 7)), -1, 1)
    actions[:, 6] = np.sign(actions[:, 6])
    return actions


def trajectory(simulator: LiberoSimulator, task: Task) -> dict[str, Any]:
    """Sixty random steps after everything that can move was thrown, so that all shapes meet.

    Arm joints keep their recorded velocity; objects get up to 1 m/s and 5 rad/s, drawers and doors 0.5.
    """
    simulator.open_task(task, 0)
    simulator.start_episode(0)
    env = simulator._env
    model, data = env.sim.model._model, env.sim.data._data
    generator = np.random.default_rng(task.index)
    for joint in range(model.njnt):
        name = model.joint(joint).name
        first = model.jnt_dofadr[joint]
        if model.jnt_type[joint] == 0:
            data.qvel[first : first + 6] = generator.uniform(-1, 1, 6) * [1, 1, 1, 5, 5, 5]
        elif not name.startswith(("robot0", "gripper0")):
            data.qvel[first] = generator.uniform(-0.5, 0.5)
    positions, contacts = [], 0
    for action in random_actions(task.index, 60):
        env.step(action)
        positions.append(simulator.positions().tolist())
        contacts += int(data.ncon)
    return {
        "positions": positions,
        "contacts": contacts,
        "mass": np.array(model.body_mass).tolist(),
        "inertia": np.array(model.body_inertia).tolist(),
    }


def check_task(simulator: LiberoSimulator, task: Task, states: int) -> dict[str, Any]:
    """Take `states` initial states, move for three steps after each; draw an episode from the first."""
    simulator.open_task(task, 0)
    env = simulator._env
    recorded = load_init_states(task)
    moved = []
    for state in np.linspace(0, len(recorded) - 1, states).round().astype(int):
        simulator._restore_snapshot()
        env.set_init_state(recorded[state])
        start = simulator.positions()
        for _ in range(3):
            env.step(np.array([0.5, 0.0, -0.5, 0.0, 0.0, 0.3, -1.0]))
        warnings = [warning.number for warning in env.sim.data._data.warning]
        assert not any(warnings), f"{task.name}, state {state}: MuJoCo reset the scene"
        moved.append(float(np.abs(simulator.positions() - start).max()))
    observation = simulator.start_episode(0).observation
    assert observation is not None
    last = simulator.execute(np.asarray(IDLE_ACTION)[None])
    return {
        "task": f"{task.suite} {task.index}",
        "init_states": list(recorded.shape),
        "model": [env.sim.model.nq, env.sim.model.nv],
        "moved": moved,
        "solved": last.success,
        "contrast": [float(image.std()) for image in (observation.image, observation.wrist_image)],
    }


def drawn_and_thrown(simulator: LiberoSimulator, task: Task) -> dict[str, Any]:
    """`trajectory`, and both images of the first initial state, (256, 256, 3) each."""
    moved = trajectory(simulator, task)
    observation = simulator.start_episode(0).observation
    assert observation is not None
    frames = [image.tolist() for image in (observation.image, observation.wrist_image)]
    return {"frames": frames, **moved}


def main() -> None:
    # LIBERO prints; the result alone goes to stdout.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    assets, name, specifications = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    tasks = []
    for specification in specifications:
        suite, _, index = specification.partition(":")
        listed = load_tasks(find_suite(suite), libero_package(), os.environ)
        tasks += [listed[int(index)]] if index else listed
    simulator = LiberoSimulator(assets)
    measurements: dict[str, Callable[[Task], Any]] = {
        "trajectories": lambda task: trajectory(simulator, task),
        "drawn_and_thrown": lambda task: drawn_and_thrown(simulator, task),
        "a_few_states": lambda task: check_task(simulator, task, 3),
        "every_state": lambda task: check_task(simulator, task, 50),
    }
    json.dump([measurements[name](task) for task in tasks], out)
    simulator.close()


if __name__ == "__main__":
    main()
