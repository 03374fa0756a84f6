"""Run inside a simulator's process: play what the tests compare, print it as JSON.

    in_simulator.py ASSETS MEASUREMENT [TASK... | SUITE]

Every measurement drives a real environment of libero_object; the tests hold the oracles.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gr00t.libero.simulator.observation import StepResult
from gr00t.libero.simulator.simulator import (
    IDLE_ACTION,
    SETTLING_STEPS,
    LiberoSimulator,
    SimulatorError,
)
from gr00t.libero.tasks.suites import Task, find_suite, libero_package, load_init_states, load_tasks

TASKS = load_tasks(find_suite("libero_object"), libero_package())


def random_actions(seed: int, count: int = 25) -> NDArray[np.float64]:
    """Bounded motions of the arm and of the gripper, (count, 7)."""
    actions = np.clip(np.random.default_rng(seed).normal(0, 0.5, (count, 7)), -1, 1)
    actions[:, 6] = np.sign(actions[:, 6])
    return actions


def trajectory(
    simulator: LiberoSimulator, init_state: int, seed: int, count: int = 25
) -> NDArray[np.float64]:
    """Positions after each step of an episode of random actions, (count, nq)."""
    simulator.start_episode(init_state)
    return np.array([positions_after(simulator, action) for action in random_actions(seed, count)])


def positions_after(simulator: LiberoSimulator, action: NDArray[np.float64]) -> NDArray[np.float64]:
    """Positions after one step, nothing drawn, (nq,)."""
    simulator._env.step(action)
    return simulator.positions()


def naive_trajectory(
    simulator: LiberoSimulator, init_state: int, seed: int, task: Task = TASKS[0]
) -> NDArray[np.float64]:
    """The episode of `trajectory` begun by LIBERO's own `set_init_state` alone."""
    simulator._env.set_init_state(load_init_states(task)[init_state])
    for _ in range(SETTLING_STEPS):
        simulator._env.step(np.asarray(IDLE_ACTION))
    return np.array([positions_after(simulator, action) for action in random_actions(seed)])


def everything(simulator: LiberoSimulator) -> dict[str, Any]:
    """The integrated state and what the robot's sensors say of it."""
    env = simulator._env.env
    seen = env._get_observations(force_update=True)
    return {"state": simulator._env.sim.get_state().flatten().tolist()} | {
        name: np.asarray(value).tolist() for name, value in seen.items()
    }


def facts(assets: Path) -> dict[str, Any]:
    """Everything that the default run asks, with as few environments as possible: about a second each."""
    one, two = LiberoSimulator(assets), LiberoSimulator(assets)
    one.open_task(TASKS[0], 0)
    first = trajectory(one, 3, 1)
    trajectory(one, 5, 2)
    after_others = trajectory(one, 3, 1)
    computed_thrice = everything(one)
    one.start_episode(3)
    one.execute(random_actions(1))
    computed_once = everything(one)
    # Twist the arm, then set the state as a naive loop would: the controller still wants the old orientation.
    one.start_episode(5)
    twist = np.array([0, 0, 0, 0.6, 0.6, 0.6, -1.0])
    for _ in range(20):
        one._env.step(twist)
    without_restoring = naive_trajectory(one, 3, 1)
    task = check_task(one, 0, [0, 49])
    rules = {"refusal": error_of(two.open_task, TASKS[1], 0), "divergence": divergence(one)}
    rules["steps_after_divergence"] = one.execute(random_actions(0, 4)).steps if one.start_episode(0) else 0
    rules["whole_steps"] = whole_steps(one)

    one.open_task(TASKS[3], 0)
    trajectory(one, 0, 2)
    one.open_task(TASKS[0], 0)
    after_another_task = trajectory(one, 3, 1)
    one._env.seed(0)
    one._env.reset()
    own_reset = naive_trajectory(one, 3, 1)
    one.close()
    rules["torch"] = "torch" in sys.modules
    rules["robosuite_log_handlers"] = len(logging.getLogger("robosuite_logs").handlers)
    return {
        "moved": float(np.ptp(first, axis=0).max()),
        "after_others": float(np.abs(after_others - first).max()),
        "after_another_task": float(np.abs(after_another_task - first).max()),
        "computed_once": [name for name in computed_thrice if computed_once[name] != computed_thrice[name]],
        "compared": len(computed_thrice),
        "own_reset": float(np.abs(own_reset - first).max()),
        "without_restoring": float(np.abs(without_restoring - first).max()),
        "task": task,
        "rules": rules,
    }


def check_task(simulator: LiberoSimulator, index: int, states: list[int]) -> dict[str, Any]:
    """With the task open: take initial states, step, draw; then the target dropped into the basket."""
    env = simulator._env
    moved = []
    for state in states:
        progress = simulator.start_episode(state)
        start = simulator.positions()
        simulator.execute(random_actions(state, 5))
        moved.append(float(np.abs(simulator.positions() - start).max()))
    observation = progress.observation
    assert observation is not None
    seen = simulator.execute(np.asarray(IDLE_ACTION)[None]).observation
    assert seen is not None
    raw = env.sim.render(camera_name="agentview", width=256, height=256)

    # The target just above the region inside the basket, at rest: it falls in.
    target, basket = (env.env.get_object(name) for name in env.obj_of_interest)
    simulator.start_episode(0)
    place = env.sim.data.get_joint_qpos(basket.joints[0])[:3] + np.array([0.0, 0.0, 0.16])
    pose = env.sim.data.get_joint_qpos(target.joints[0])
    env.sim.data.set_joint_qpos(target.joints[0], np.concatenate([place, pose[3:]]))
    env.sim.forward()
    before = bool(env.check_success())
    fall = simulator.execute(np.tile(np.asarray(IDLE_ACTION), (40, 1)))
    return {
        "task": TASKS[index].name,
        "init_states": list(load_init_states(TASKS[index]).shape),
        "model": [env.sim.model.nq, env.sim.model.nv],
        "moved": moved,
        "image": [list(seen.image.shape), str(seen.image.dtype), float(seen.image.std())],
        "wrist_std": float(seen.wrist_image.std()),
        "rotated": float(np.abs(raw[::-1, ::-1].astype(int) - seen.image).mean()),
        "flipped": float(np.abs(raw[::-1].astype(int) - seen.image).mean()),
        "state": observation.state.tolist(),
        "placed": [before, fall.success, fall.steps],
    }


def divergence(simulator: LiberoSimulator) -> str:
    """What is said of velocities so high that MuJoCo gives up on the state and resets the scene by itself."""
    simulator.start_episode(0)
    simulator._env.sim.data.qvel[:] = 1e9
    return error_of(simulator.execute, random_actions(0, 4))


def whole_steps(simulator: LiberoSimulator) -> str:
    """What is said of an integrator whose steps have no halves."""
    simulator.start_episode(0)
    # mjINT_RK4
    simulator._env.sim.model._model.opt.integrator = 1
    return error_of(simulator.execute, random_actions(0, 1))


def error_of(call: Callable[..., Any], *arguments: Any) -> str:
    try:
        call(*arguments)
    except (SimulatorError, ValueError) as error:
        return str(error)
    return ""


def moments(assets: Path) -> dict[str, Any]:
    """An episode of random actions, without turns from the 15th on; another; and again from the 20th on."""
    simulator = LiberoSimulator(assets)
    simulator.open_task(TASKS[0], 0)
    simulator.start_episode(3)
    actions = random_actions(1, 40)
    actions[15:, 3:6] = 0.0
    kept, seen = [], []
    for action in actions:
        kept.append(simulator.moment(action))
        simulator.step(action, StepResult())
        seen.append(everything(simulator))
        if len(kept) == 20:
            views = simulator.observe(StepResult())
    trajectory(simulator, 5, 2)
    moment = pickle.loads(pickle.dumps(kept[19]))
    again = []
    for _ in range(2):
        simulator.go_back(moment, StepResult())
        back = simulator.observe(StepResult())
        found = [everything(simulator)]
        for action in actions[20:]:
            simulator.step(action, StepResult())
            found.append(everything(simulator))
        again.append(found)
    simulator.open_task(TASKS[1], 0)
    refusal = error_of(lambda: simulator.go_back(moment, StepResult()))
    simulator.close()
    return {
        "moved": float(np.abs(np.subtract(seen[-1]["state"], seen[19]["state"])).max()),
        "compared": len(again[0]),
        "same": [found == seen[19:] for found in again],
        "same_views": bool(
            np.array_equal(back.image, views.image) and np.array_equal(back.wrist_image, views.wrist_image)
        ),
        "same_state": bool(np.array_equal(back.state, views.state)),
        "pickled_bytes": len(pickle.dumps(moment)),
        "refusal": refusal,
    }


def all_tasks(assets: Path) -> list[dict[str, Any]]:
    """Every task with every initial state."""
    simulator = LiberoSimulator(assets)
    results = []
    for task in TASKS:
        simulator.open_task(task, 0)
        results.append(check_task(simulator, task.index, list(range(50))))
    simulator.close()
    return results


def split_steps(assets: Path, suite: str) -> list[list[float]]:
    """For every task of a suite: how far 25 random steps move it, and the largest difference of a position
    between robosuite's own steps and ours, settling included.
    """
    simulator = LiberoSimulator(assets)
    result = []
    for task in load_tasks(find_suite(suite), libero_package()):
        simulator.open_task(task, 0)
        simulator._env.set_init_state(load_init_states(task)[7])
        start = simulator.positions()
        simulator._restore_snapshot()
        own = naive_trajectory(simulator, 7, 1, task)[-1]
        simulator.start_episode(7)
        for action in random_actions(1):
            simulator.step(action, StepResult())
        result.append([float(np.abs(own - start).max()), float(np.abs(simulator.positions() - own).max())])
    simulator.close()
    return result


def trajectories(assets: Path, indices: list[int]) -> list[list[list[float]]]:
    """Sixty random control steps of each task, positions after each: (tasks, 60, nq)."""
    simulator = LiberoSimulator(assets)
    result = []
    for index in indices:
        simulator.open_task(TASKS[index], 0)
        result.append(trajectory(simulator, 0, index, count=60).tolist())
    simulator.close()
    return result


def main() -> None:
    # LIBERO prints; the result alone goes to stdout.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    assets, name, arguments = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    measurements: dict[str, Callable[[], Any]] = {
        "facts": lambda: facts(assets),
        "moments": lambda: moments(assets),
        "all_tasks": lambda: all_tasks(assets),
        "split_steps": lambda: split_steps(assets, *arguments),
        "trajectories": lambda: trajectories(assets, [int(text) for text in arguments]),
    }
    json.dump(measurements[name](), out)


if __name__ == "__main__":
    main()
