"""Whether the objects of a suite come to rest where they did when LIBERO's results were published."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from gr00t.cli.checks.installed import check_machine
from gr00t.libero.assets.location import resolve_assets
from gr00t.libero.simulator.mujoco_version import MUJOCO
from gr00t.libero.simulator.process import SimulatorProcess, choose_backend, simulator_environ
from gr00t.libero.simulator.resting_poses import SUITES, Poses, differences, read_poses, write_poses
from gr00t.libero.simulator.settling import Rest
from gr00t.libero.tasks.suites import LiberoError, Task, find_suite, libero_package, load_tasks
from gr00t.spelling import did_you_mean

INIT_STATES = 50
# How the objects of a task came to rest, by object; and the version of MuJoCo.
Settled = tuple[dict[str, Rest], str]


def parse_suites(text: str) -> tuple[str, ...]:
    """Return the suites that `text` names: one, or `all` that there is a table for.

    Raises:
        LiberoError: there is no such suite, or no table for it.
    """
    if text == "all":
        return SUITES
    name = find_suite(text).name
    if name not in SUITES:
        raise LiberoError(f"no resting poses were recorded for {name}: {did_you_mean(name, SUITES)}")
    return (name,)


def settle_tasks(
    suite: str, tasks: Sequence[int], init_states: Sequence[int], workers: int, environ: Mapping[str, str]
) -> Iterator[tuple[int, Settled]]:
    """Let the objects of `tasks` settle on `workers` simulators at a time; yield them in order, by task.

    Raises:
        LiberoError: the simulator cannot be started.
        SimulatorError: it failed.
    """
    package = libero_package()
    environ = {**environ, "HF_HUB_OFFLINE": "1"}  # a doctor downloads nothing
    assets = resolve_assets(find_suite(suite), package=package, environ=environ, choice="auto")
    prepared = simulator_environ(environ, backend=choose_backend("auto", environ), package=package)
    known = load_tasks(find_suite(suite), package)
    idle: SimpleQueue[SimulatorProcess] = SimpleQueue()
    with tempfile.TemporaryDirectory(prefix="settling-") as folder, ThreadPoolExecutor(workers) as pool:
        simulators = [
            SimulatorProcess(assets.path, prepared, Path(folder) / f"simulator-{number}.log")
            for number in range(workers)
        ]
        for simulator in simulators:
            idle.put(simulator)
        try:
            settle = _on_an(idle)
            settled = pool.map(lambda task: settle(known[task], init_states), tasks)
            yield from zip(tasks, settled, strict=True)
        finally:
            pool.shutdown(cancel_futures=True)
            for simulator in simulators:
                simulator.close()


def _on_an(idle: SimpleQueue[SimulatorProcess]) -> Callable[[Task, Sequence[int]], Settled]:
    def settle(task: Task, init_states: Sequence[int]) -> Settled:
        simulator = idle.get()
        try:
            simulator.open_task(task, seed=0)
            return simulator.settle(init_states), simulator.versions["mujoco"]
        finally:
            idle.put(simulator)

    return settle


def examine_settling(suites: Sequence[str], environ: Mapping[str, str]) -> dict[str, Any]:
    """Settle every recorded state of `suites` and hold it against the table, a line for each task as it ends.

    Returns:
        `ok`, `mujoco`, `expected_mujoco`, and by suite and task the `differences` of its objects.

    Raises:
        LiberoError: the simulator cannot be started.
        SimulatorError: it failed.
    """
    expected = read_poses()
    found: dict[str, dict[str, list[dict[str, Any]]]] = {suite: {} for suite in suites}
    for suite in suites:
        for task, (rests, version) in _settle_suite(suite, environ):
            mujoco = version
            differing = differences(rests, expected[suite, task], range(INIT_STATES))
            found[suite][str(task)] = [difference._asdict() for difference in differing]
            print(f"{suite} task {task}: {'differs' if differing else 'ok'}", flush=True)
            for difference in differing:
                print(f"    {difference}", flush=True)
    return {
        "ok": not any(differing for tasks in found.values() for differing in tasks.values()),
        "mujoco": mujoco,
        "expected_mujoco": MUJOCO,
        "differences": found,
    }


def record(path: Path, environ: Mapping[str, str]) -> None:
    """Settle every recorded state of all suites and write the table that the others are held against.

    Raises:
        LiberoError: the simulator cannot be started, or MuJoCo is not the benchmark's.
        SimulatorError: it failed.
    """
    poses: Poses = {}
    for suite in SUITES:
        for task, (rests, mujoco) in _settle_suite(suite, environ):
            if mujoco != MUJOCO:
                raise LiberoError(f"the table is recorded under MuJoCo {MUJOCO}, here is {mujoco}")
            poses[suite, task] = rests
            print(f"{suite} task {task}: {len(rests)} objects", flush=True)
    write_poses(poses, path)


def _settle_suite(suite: str, environ: Mapping[str, str]) -> Iterator[tuple[int, Settled]]:
    tasks = range(find_suite(suite).num_tasks)
    return settle_tasks(suite, tasks, range(INIT_STATES), check_machine()[1], environ)
