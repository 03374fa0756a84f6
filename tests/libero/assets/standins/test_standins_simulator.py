"""The stand-ins in the real simulator: every task runs, and moves exactly as with LIBERO's own files.

Measurements are taken by standins_in_simulator.py in processes of their own: mujoco chooses its GL library at
import.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gr00t.libero.assets.standins.folder import STANDIN_SUITES, standin_files, write_standins
from gr00t.libero.simulator.environ import choose_backend, simulator_environ
from gr00t.libero.tasks.suites import find_suite, libero_package
from tests.libero.real_assets import REAL_ASSETS, needs_real_assets

pytestmark = pytest.mark.libero

# Both cabinets, the stove, the microwave, every mug, both pots, the book and its caddy, the rack, the basket.
EVENTFUL_TASKS = (
    *("libero_spatial:0", "libero_spatial:4", "libero_goal:2", "libero_goal:7", "libero_object:1"),
    *(
        "libero_10:0",
        "libero_10:2",
        "libero_10:3",
        "libero_10:4",
        "libero_10:5",
        "libero_10:8",
        "libero_10:9",
    ),
)


@pytest.fixture(scope="module")
def standins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_standins(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A simulator's variables with a cache of our own."""
    base = {**os.environ, "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("xdg"))}
    return simulator_environ(base, backend=choose_backend("auto", os.environ), package=libero_package())


def measure(environ: dict[str, str], assets: Path | str, name: str, *tasks: str) -> Any:
    program = Path(__file__).parent / "standins_in_simulator.py"
    result = subprocess.run(
        [sys.executable, str(program), str(assets), name, *tasks],
        env=environ,
        cwd=environ["XDG_CACHE_HOME"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout)


def check(result: dict[str, Any]) -> None:
    nq, nv = result["model"]
    assert result["init_states"] == [50, 1 + nq + nv], result["task"]
    # Largest change of a position in three steps, over all tasks and states: 0.060 to 0.66 (an object that
    # tips over); with the arm stuck it would be near 0, with shapes inside each other objects would fly.
    assert min(result["moved"]) > 0.03, result["task"]
    assert max(result["moved"]) < 1.0, result["task"]
    assert not result["solved"], result["task"]
    # Standard deviation of grey levels over all tasks: 26 to 80; a blank frame has 0.
    assert min(result["contrast"]) > 15, result["task"]


def test_tasks_with_fixtures_and_with_mugs_take_their_initial_states(
    standins: Path, environ: dict[str, str]
) -> None:
    for result in measure(environ, standins, "a_few_states", "libero_goal:0", "libero_10:9"):
        check(result)


@pytest.mark.slow
@pytest.mark.parametrize("suite", STANDIN_SUITES)
def test_every_task_takes_all_its_initial_states(standins: Path, environ: dict[str, str], suite: str) -> None:
    results = measure(environ, standins, "every_state", suite)
    assert len(results) == find_suite(suite).num_tasks
    for result in results:
        check(result)


@needs_real_assets
@pytest.mark.slow
def test_thrown_objects_move_exactly_as_with_libero_s_own_files(
    standins: Path, environ: dict[str, str]
) -> None:
    ours = measure(environ, standins, "trajectories", *EVENTFUL_TASKS)
    theirs = measure(environ, REAL_ASSETS, "trajectories", *EVENTFUL_TASKS)
    for task, mine, original in zip(EVENTFUL_TASKS, ours, theirs, strict=True):
        assert mine["mass"] == original["mass"], task
        assert mine["inertia"] == original["inertia"], task
        # Summed over 60 steps, all 40 tasks: 425 to 5262; without objects that meet something there are none.
        assert mine["contacts"] > 300, task
        difference = np.abs(np.array(mine["positions"]) - np.array(original["positions"])).max()
        assert difference == 0.0, task
        # Measured: 0.56 m or more.
        assert np.ptp(np.array(mine["positions"]), axis=0).max() > 0.3, task


def test_mujoco_loads_every_description_with_all_its_meshes(standins: Path) -> None:
    import mujoco

    for name in standin_files():
        if name.endswith(".xml"):
            model = mujoco.MjModel.from_xml_path(str(standins / name))
            assert model.nmesh > 0 or name == "scenes/libero_floor_base_style.xml" or "tabletop" in name
