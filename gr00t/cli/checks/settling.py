"""Whether the objects of a suite come to rest where they did when LIBERO's results were published."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gr00t.cli.checks.check import Check
from gr00t.cli.checks.installed import check_machine
from gr00t.libero.settled.resting_poses import SUITES, Poses, differences, read_poses, write_poses
from gr00t.libero.settled.settling import Rest, settle
from gr00t.libero.simulator.mujoco_version import MUJOCO
from gr00t.libero.simulator.process import SimulatorProcess
from gr00t.libero.simulator.setup import SimulatorSetup
from gr00t.libero.tasks.suites import LiberoError, find_suite, libero_package, load_tasks
from gr00t.spelling import did_you_mean

INIT_STATES = 50
# How the objects of a task came to rest, by object; and the version of MuJoCo.
Settled = tuple[dict[str, Rest], str]


def check_settling() -> Check:
    """Whether MuJoCo is the one that the table was recorded under; the states themselves take minutes."""
    found = version("mujoco")
    if found == MUJOCO:
        told = f"MuJoCo {found}, as in the table; each state of a suite is compared by --settle SUITE"
        return Check("settled states", "ok", told)
    return Check(
        "settled states",
        "missing",
        f"MuJoCo {found} may play another benchmark than {MUJOCO}, which the table was recorded under",
        "python scripts/libero_doctor.py --settle all",
    )


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
    known = load_tasks(find_suite(suite), libero_package())
    environ = {**environ, "HF_HUB_OFFLINE": "1"}  # a doctor downloads nothing

    def settle_task(simulator: SimulatorProcess, task: int) -> Settled:
        simulator.open_task(known[task], seed=0)
        return simulator.run(settle, init_states), simulator.versions["mujoco"]

    with tempfile.TemporaryDirectory(prefix="settling-") as logs:
        setup = SimulatorSetup(find_suite(suite), "auto", "auto", "full", environ, Path(logs))
        with setup.pool(workers) as pool:
            yield from zip(tasks, pool.map(settle_task, tasks), strict=True)


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
        for task, (rests, used) in _settle_suite(suite, environ):
            mujoco = used
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
        for task, (rests, used) in _settle_suite(suite, environ):
            mujoco = used
            if mujoco != MUJOCO:
                raise LiberoError(f"the table is recorded under MuJoCo {MUJOCO}, here is {mujoco}")
            poses[suite, task] = rests
            print(f"{suite} task {task}: {len(rests)} objects", flush=True)
    write_poses(poses, path)


def _settle_suite(suite: str, environ: Mapping[str, str]) -> Iterator[tuple[int, Settled]]:
    tasks = range(find_suite(suite).num_tasks)
    return settle_tasks(suite, tasks, range(INIT_STATES), check_machine()[1], environ)
