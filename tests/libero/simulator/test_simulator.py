"""The real simulator: physics, isolation of episodes, frames, and its process.

Measurements are taken by in_simulator.py in processes of their own: mujoco chooses its GL library at import.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gr00t.libero.assets.standins.folder import write_standins
from gr00t.libero.simulator.environ import SimulatorStartError, choose_backend, simulator_environ
from gr00t.libero.simulator.process import SimulatorProcess
from gr00t.libero.simulator.simulator import LiberoSimulator, SimulatorError
from gr00t.libero.tasks.suites import LiberoError, find_suite, libero_package, load_tasks
from tests.libero.real_assets import REAL_ASSETS, needs_real_assets


@pytest.fixture(scope="session")
def standins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_standins(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A simulator's variables with a cache of our own."""
    base = {**os.environ, "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("xdg"))}
    return simulator_environ(base, backend=choose_backend("auto", os.environ), package=libero_package())


def measure(environ: dict[str, str], assets: Path | str, name: str, *tasks: int | str) -> Any:
    program = Path(__file__).parent / "in_simulator.py"
    result = subprocess.run(
        [sys.executable, str(program), str(assets), name, *map(str, tasks)],
        env=environ,
        cwd=environ["XDG_CACHE_HOME"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def facts(standins: Path, environ: dict[str, str]) -> Any:
    """What one simulator's process found out."""
    return measure(environ, standins, "facts")


def check_task(result: dict[str, Any]) -> None:
    nq, nv = result["model"]
    assert result["init_states"] == [50, 1 + nq + nv], result["task"]
    # Measured over all tasks: 0.050 to 0.085 in 5 random steps.
    assert min(result["moved"]) > 0.01
    shape, dtype, contrast = result["image"]
    assert (shape, dtype) == ([256, 256, 3], "uint8")
    # Standard deviation of grey levels, over all tasks: 39 to 41, wrist 65 to 69; a blank frame has 0.
    assert contrast > 20
    assert result["wrist_std"] > 20
    assert result["rotated"] == 0.0
    assert result["flipped"] > 1.0
    assert len(result["state"]) == 8
    before, success, steps = result["placed"]
    assert not before, "the target counts as placed while it hangs in the air"
    assert success, f"{result['task']}: the target fell beside the basket"
    # Measured: 2 for every task.
    assert steps < 10


@pytest.mark.libero
def test_a_task_takes_its_states_steps_draws_and_succeeds(facts: Any) -> None:
    check_task(facts["task"])


@pytest.mark.libero
@pytest.mark.slow
def test_all_ten_tasks_take_all_their_states_step_draw_and_succeed(
    standins: Path, environ: dict[str, str]
) -> None:
    results = measure(environ, standins, "all_tasks")
    assert len({result["task"] for result in results}) == 10
    for result in results:
        check_task(result)


@pytest.mark.libero
def test_an_episode_is_the_same_first_and_after_others(facts: Any) -> None:
    # Largest difference of any position over 40 steps: after other episodes, after another task, and from
    # LIBERO's own reset instead of our restored snapshot.
    assert facts["after_others"] == 0.0
    assert facts["after_another_task"] == 0.0
    assert facts["own_reset"] == 0.0
    assert facts["moved"] > 0.1
    # The trap that this avoids is real: measured 1.67 (radians of a joint, metres, quaternion parts).
    assert facts["without_restoring"] > 0.01


@pytest.mark.libero
def test_computing_a_physics_step_once_gives_what_robosuite_gives(facts: Any) -> None:
    # State and sensors bit for bit, after 25 control steps of random actions.
    assert facts["computed_once"] == []
    # Counted: the state and 38 observables of robosuite's.
    assert facts["compared"] == 39


@pytest.mark.libero
@pytest.mark.slow
@pytest.mark.parametrize("suite", ["libero_spatial", "libero_object", "libero_goal", "libero_10"])
def test_every_task_moves_exactly_as_by_robosuites_own_steps(
    standins: Path, environ: dict[str, str], suite: str
) -> None:
    found = np.array(measure(environ, standins, "split_steps", suite))
    assert found.shape == (10, 2)
    # Measured: 0.27 to 0.41 (radians, metres, quaternion parts).
    assert found[:, 0].min() > 0.05
    assert found[:, 1].max() == 0.0


@pytest.mark.libero
def test_an_episode_that_is_gone_back_to_goes_on_as_it_did(standins: Path, environ: dict[str, str]) -> None:
    found = measure(environ, standins, "moments")
    # State and sensors bit for bit after each of the 20 steps that follow, twice, and both views.
    assert found["same"] == [True, True]
    assert found["compared"] == 21
    assert found["same_views"]
    assert found["same_state"]
    assert found["moved"] > 0.05
    # Measured: 18 kB; an episode of 280 steps is remembered step by step.
    assert found["pickled_bytes"] < 30_000
    assert found["refusal"] == (
        "a moment of the task ('libero_object', 0, 0) cannot be gone back to in ('libero_object', 1, 0)"
    )


@pytest.mark.libero
def test_what_the_simulator_refuses_and_that_torch_stays_out(facts: Any) -> None:
    assert facts["rules"] == {
        "refusal": "another LIBERO environment is open in this process: close it first",
        "divergence": "the simulation diverged (MuJoCo reset the scene by itself)",
        "steps_after_divergence": 4,
        "whole_steps": "a step of the integrator mjINT_RK4 cannot be computed in halves; any other's can",
        "torch": False,
        # One to the console for errors; none to a file that all users of a machine would share.
        "robosuite_log_handlers": 1,
    }


@pytest.mark.libero
@needs_real_assets
@pytest.mark.parametrize("task", [0, pytest.param(None, marks=pytest.mark.slow)])
def test_stand_ins_move_exactly_like_libero_s_own_assets(
    standins: Path, environ: dict[str, str], task: int | None
) -> None:
    tasks = range(10) if task is None else [task]
    ours = np.array(measure(environ, standins, "trajectories", *tasks))
    theirs = np.array(measure(environ, REAL_ASSETS, "trajectories", *tasks))
    assert ours.shape == (len(tasks), 60, 58)
    assert np.abs(ours - theirs).max() == 0.0


@pytest.fixture
def process(standins: Path, environ: dict[str, str], tmp_path: Path) -> Iterator[SimulatorProcess]:
    simulator = SimulatorProcess(standins, environ, tmp_path / "simulator.log")
    simulator.start()
    yield simulator
    simulator.close()


@pytest.mark.libero
def test_a_killed_simulator_is_an_error_that_says_so_and_the_next_one_starts(
    process: SimulatorProcess,
) -> None:
    assert process._child is not None
    os.kill(process._child.pid, signal.SIGKILL)
    killed = r"simulator process, execute: killed by signal 9 .*simulator\.log"
    with pytest.raises(SimulatorError, match=killed):
        process.run(LiberoSimulator.execute, np.zeros((1, 7)))
    with pytest.raises(SimulatorError, match="the simulator is not running"):
        process.run(LiberoSimulator.execute, np.zeros((1, 7)))
    process.start()
    assert set(process.versions) == {"mujoco", "robosuite", "hf-libero", "bddl", "numpy"}


@pytest.mark.libero
def test_an_error_inside_the_simulator_ends_its_process_and_is_quoted(process: SimulatorProcess) -> None:
    expected = r"start_episode: ended with status 1: gr00t\S+SimulatorError: no task is open \(log: "
    with pytest.raises(SimulatorError, match=expected):
        process.run(LiberoSimulator.start_episode, 0)
    assert process._child is None


@pytest.mark.libero
def test_a_simulator_that_hangs_is_given_up(process: SimulatorProcess) -> None:
    process._timeout_s = 0.2
    with pytest.raises(SimulatorError, match=r"open_task: no answer within 0.2 s"):
        process.open_task(load_tasks(find_suite("object"), libero_package())[0], 0)
    assert process._child is None


@pytest.mark.libero
def test_a_machine_on_which_gl_does_not_load_is_told_at_the_start(
    standins: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    broken = {**environ, "MUJOCO_GL": "nonsense", "PYOPENGL_PLATFORM": "nonsense"}
    with pytest.raises(SimulatorStartError, match=r"the simulator does not start: .*nonsense"):
        SimulatorProcess(standins, broken, tmp_path / "log").start()


def test_osmesa_unless_the_user_chose_another_that_needs_no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.util.find_library", lambda name: f"lib{name}.so")
    assert choose_backend("auto", {}) == "osmesa"
    assert choose_backend("auto", {"MUJOCO_GL": "egl"}) == "egl"
    assert choose_backend("auto", {"MUJOCO_GL": "glfw"}) == "osmesa"
    assert choose_backend("egl", {"MUJOCO_GL": "osmesa"}) == "egl"
    with pytest.raises(LiberoError, match=r"unknown GL backend 'osmessa': did you mean osmesa\?"):
        choose_backend("osmessa", {})


def test_a_missing_gl_library_is_reported_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    with pytest.raises(
        SimulatorStartError, match=r"libOSMesa is missing; run: apt-get install -y libosmesa6"
    ):
        choose_backend("auto", {})


def test_the_users_own_libero_settings_are_neither_used_nor_changed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    base = {"HOME": str(home), "LIBERO_CONFIG_PATH": str(home / ".libero"), "PYTHONPATH": "/extra"}
    package = tmp_path / 'a "strange" folder' / "libero"
    result = simulator_environ(base, backend="osmesa", package=package)
    assert result["LIBERO_CONFIG_PATH"].startswith(str(home / ".cache/gr00t-duquant/libero/config-"))
    assert not (home / ".libero").exists()
    assert base["LIBERO_CONFIG_PATH"] == str(home / ".libero")
    assert (result["MUJOCO_GL"], result["PYOPENGL_PLATFORM"]) == ("osmesa", "osmesa")
    assert result["PYTHONPATH"].endswith(f"{os.pathsep}/extra")
    yaml = pytest.importorskip("yaml")
    config = yaml.safe_load((Path(result["LIBERO_CONFIG_PATH"]) / "config.yaml").read_text())
    assert config["bddl_files"] == str(package / "bddl_files")
    assert set(config) == {"assets", "bddl_files", "benchmark_root", "datasets", "init_states"}
