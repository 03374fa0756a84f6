"""scripts/libero_doctor.py. Oracles: what is put in place of the machine's own, and the rules of a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType

import pytest

from gr00t.cli import doctor as libero_doctor
from gr00t.cli.checks import assets, check, installed, settling, simulator
from gr00t.cli.checks.assets import AssetsSource
from gr00t.libero.assets import packages
from gr00t.libero.assets.location import resolve_assets
from gr00t.libero.assets.standins.folder import STANDIN_SUITES, write_standins
from gr00t.libero.settled.resting_poses import SUITES, read_poses
from gr00t.libero.settled.settling import Rest
from gr00t.libero.simulator.mujoco_version import MUJOCO
from gr00t.libero.tasks.perturbations import listed, split_suite
from gr00t.libero.tasks.suites import LiberoError, find_suite
from tests.shell import REPO

# Those that the usual folder of stand-ins is complete for: objects of other looks are in another.
PLAIN = [suite for suite in STANDIN_SUITES if split_suite(suite)[1] != "object"]


@pytest.fixture(scope="module")
def doctor() -> dict[str, ModuleType]:
    return {
        "assets": assets,
        "check": check,
        "installed": installed,
        "settling": settling,
        "simulator": simulator,
        "libero_doctor": libero_doctor,
    }


def run_doctor(*flags: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(REPO / "scripts/libero_doctor.py"), *flags],
        env={**os.environ, "PYTHONPATH": str(REPO), **environ},
        capture_output=True,
        text=True,
    )


def test_a_missing_package_is_said_in_one_line_with_the_command(
    doctor, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def without(name: str) -> str:
        if name in ("robosuite", "torch"):
            raise PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(doctor["installed"], "version", without)
    monkeypatch.setattr(sys, "argv", ["libero_doctor.py"])
    assert doctor["libero_doctor"].main() == 1
    lines = capsys.readouterr().out.splitlines()
    assert "missing robosuite             not installed (robot and controller)" in lines
    assert "missing torch                 not installed (the policy server; not needed where" in "\n".join(
        lines
    )
    assert "ok      mujoco                1.0" in lines
    assert lines[-2:] == ["An evaluation cannot run yet. Next:", "    scripts/setup_env.sh libero"]


def test_packages_without_which_an_evaluation_runs_do_not_stop_it(
    doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(name: str) -> str:
        if name in ("torch", "fast-simplification"):
            raise PackageNotFoundError(name)
        return version("numpy")

    monkeypatch.setattr(doctor["installed"], "version", without)
    checks = doctor["installed"].check_packages()
    assert [check.name for check in checks if check.status == "missing"] == ["torch", "fast-simplification"]
    assert not any(check.stops for check in checks)


@pytest.mark.parametrize(
    ("available_kib", "cores", "workers"), [(20 * 2**20, 2, 2), (3 * 2**20, 8, 3), (2**19, 4, 1), (0, 4, 4)]
)
def test_workers_by_cores_and_memory(
    doctor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, available_kib: int, cores: int, workers: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    meminfo = tmp_path / "meminfo"
    if available_kib:
        meminfo.write_text(f"MemTotal: 1 kB\nMemAvailable:   {available_kib} kB\n")
    check, told = doctor["installed"].check_machine(meminfo)
    assert told == workers
    assert f"--workers {workers}" in check.detail
    assert check.status == ("slow" if 0 < available_kib < 2**20 else "ok")


def test_an_error_ends_with_the_command_that_helps(doctor) -> None:
    error = LiberoError("libOSMesa is missing; run: apt-get install -y libosmesa6")
    assert doctor["check"].split_advice(error) == ("libOSMesa is missing", "apt-get install -y libosmesa6")
    assert doctor["check"].split_advice(LiberoError("no")) == ("no", "")


def test_what_helps_is_said_where_no_command_does(doctor) -> None:
    wrong = "/none cannot be made (Read-only file system); set XDG_CACHE_HOME to a folder that you can write"
    check = doctor["check"].Check("drawing", "missing", wrong, needed=True)
    assert doctor["libero_doctor"].advice([check], {}, 1, False) == [wrong]


def test_a_missing_gl_library_is_missing_with_the_command(doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    check = doctor["simulator"].check_backend("egl", os.environ, light=False)
    assert (check.status, check.detail) == ("missing", "libEGL is missing")
    assert check.next == "apt-get install -y libegl1 libegl-mesa0 libgl1-mesa-dri"


def test_a_named_folder_is_used_or_refused_and_nothing_takes_its_place(doctor, tmp_path: Path) -> None:
    folder = write_standins(tmp_path)
    (check,), sources = doctor["assets"].check_assets({"LIBERO_ASSETS": str(folder)})
    assert check.status == "ok"
    assert kinds(sources) == dict.fromkeys(PLAIN, "LIBERO_ASSETS")
    (check,), sources = doctor["assets"].check_assets({"LIBERO_ASSETS": str(tmp_path / "nowhere")})
    assert (check.stops, check.next, sources) == (True, "unset LIBERO_ASSETS", {})
    assert check.detail == f"{tmp_path / 'nowhere'}: no such folder"


def kinds(sources: dict[str, AssetsSource]) -> dict[str, str]:
    return {suite: source.kind for suite, source in sources.items()}


@pytest.mark.libero
def test_without_a_folder_what_is_there_comes_before_the_stand_ins(
    doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "NAMESPACE", "gr00t_test_no_such_assets")
    checks, sources = doctor["assets"].check_assets({"HOME": str(tmp_path)})
    names = ["assets: packages", "assets: installed", "assets: hub", "assets: stand-ins"]
    assert [check.name for check in checks] == names
    assert checks[0].detail == "the packages of LIBERO's assets are not installed (357 MB to download)"
    assert checks[0].next == "scripts/setup_env.sh libero-assets"
    assert kinds(sources) == dict.fromkeys(STANDIN_SUITES, "stand-ins")
    hub = tmp_path / ".cache/libero/assets"
    hub.parent.mkdir(parents=True)
    write_standins(tmp_path).rename(hub)
    checks, sources = doctor["assets"].check_assets({"HOME": str(tmp_path)})
    expected = {**dict.fromkeys(STANDIN_SUITES, "stand-ins"), **dict.fromkeys(PLAIN, "hub")}
    assert kinds(sources) == expected
    assert checks[2].detail == f"{hub}, 2 MB: complete for {listed(PLAIN)}"
    found = resolve_assets(find_suite("10"), package=tmp_path, environ={"HOME": str(tmp_path)})
    assert sources["libero_10"].fingerprint == found.fingerprint
    _, sources = doctor["assets"].check_assets({"HOME": str(tmp_path), "LIBERO_ASSETS": "stand-ins"})
    assert kinds(sources) == dict.fromkeys(STANDIN_SUITES, "stand-ins")


def test_the_tasks_of_libero_pro_are_fetched_when_they_are_played(doctor, tmp_path: Path) -> None:
    found = doctor["assets"].check_libero_pro({"HOME": str(tmp_path)})
    assert (found.status, found.stops) == ("missing", False)
    assert found.detail == "its tasks are fetched by the first run that plays them (5.5 MB)"


@pytest.mark.libero
def test_pointers_of_git_lfs_are_told(doctor, tmp_path: Path) -> None:
    folder = write_standins(tmp_path)
    for description in folder.rglob("*.xml"):
        description.write_text("version https://git-lfs.github.com/spec/v1\n")
    (check,), sources = doctor["assets"].check_assets({"LIBERO_ASSETS": str(folder)})
    assert (check.stops, sources) == (True, {})
    assert "has pointers of Git LFS for files: scenes/libero_tabletop_base_style.xml, " in check.detail
    assert check.detail.endswith(" and 2 more; run in it: git lfs pull")


def test_another_mujoco_than_the_table_s_is_told(doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor["settling"].check_settling().status == "ok"
    monkeypatch.setattr(doctor["settling"], "version", lambda name: "3.8.1")
    found = doctor["settling"].check_settling()
    assert (found.status, found.stops, found.next) == (
        "missing",
        False,
        "python scripts/libero_doctor.py --settle all",
    )
    assert found.detail.startswith("MuJoCo 3.8.1 may play another benchmark than 3.3.2")


@pytest.mark.libero
def test_on_this_machine_an_evaluation_can_run(tmp_path: Path) -> None:
    run = run_doctor("--json", XDG_CACHE_HOME=str(tmp_path), HOME=str(tmp_path), LIBERO_ASSETS="")
    assert (run.returncode, run.stderr) == (0, "")
    result = json.loads(run.stdout)
    assert result["ok"]
    assert set(result["suites"]) >= set(STANDIN_SUITES)
    assert result["fingerprints"].keys() == result["suites"].keys()
    checks = {check["name"]: check for check in result["checks"]}
    assert checks["mujoco"]["detail"] == version("mujoco")
    drawing = [check for name, check in checks.items() if name.startswith("gl: ")]
    assert len(drawing) == 2
    assert any("ms per step with two images (full)" in check["detail"] for check in drawing)
    # A fresh cache: the check draws with robosuite's own robot rather than make one.
    assert checks["light robot"]["status"] == "missing"
    assert result["next"][0].startswith("python scripts/evaluate.py --suite libero_object")


def settled_as_in_the_table(doctor, monkeypatch: pytest.MonkeyPatch, lifted: float) -> None:
    """Put the table's own poses in place of a simulator's; one object of task 5 lies higher from state 7."""
    table = read_poses()

    def settle_tasks(suite, tasks, init_states, workers, environ):
        for task in tasks:
            objects = {
                name: Rest(*(values.copy() for values in rest)) for name, rest in table[suite, task].items()
            }
            if task == 5:
                objects["akita_black_bowl_1"].position[7, 2] += lifted
            yield task, (objects, "3.8.1" if lifted else MUJOCO)

    monkeypatch.setattr(doctor["settling"], "settle_tasks", settle_tasks)
    monkeypatch.setattr(sys, "argv", ["libero_doctor.py", "--settle", "spatial", "--json"])


def test_objects_that_settle_elsewhere_are_named_and_the_status_tells(
    doctor, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settled_as_in_the_table(doctor, monkeypatch, lifted=0.0084)
    assert doctor["libero_doctor"].main() == 1
    *lines, last = capsys.readouterr().out.splitlines()
    assert lines[4:7] == [
        "libero_spatial task 4: ok",
        "libero_spatial task 5: differs",
        "    akita_black_bowl_1, 1 initial states: 8.4 mm from its place, tilt off by 0.0 degrees, "
        "0.0 mm to go when an evaluation begins",
    ]
    result = json.loads(last)
    assert (result["ok"], result["mujoco"], result["expected_mujoco"]) == (False, "3.8.1", MUJOCO)
    (difference,) = result["differences"]["libero_spatial"]["5"]
    assert difference["states"] == [7]

    settled_as_in_the_table(doctor, monkeypatch, lifted=0.0)
    assert doctor["libero_doctor"].main() == 0


@pytest.mark.parametrize(
    ("flags", "status", "said"),
    [
        (["--settle", "libero_spatail"], 1, "did you mean libero_spatial?"),
        (["--settle", "libero_90"], 1, "no resting poses were recorded for libero_90"),
        (["--settle", "object", "--record", "x.npz"], 2, "--record needs --settle all"),
    ],
)
def test_what_cannot_be_settled_is_said_in_one_line(flags: list[str], status: int, said: str) -> None:
    run = run_doctor(*flags)
    assert run.returncode == status
    assert said in run.stderr.splitlines()[-1]


@pytest.mark.libero
@pytest.mark.slow
@pytest.mark.parametrize("suite", SUITES)
def test_on_this_machine_every_recorded_state_settles_as_in_the_table(suite: str, tmp_path: Path) -> None:
    run = run_doctor("--settle", suite, "--json", XDG_CACHE_HOME=str(tmp_path), LIBERO_ASSETS="")
    assert (run.returncode, run.stderr) == (0, ""), run.stdout
    assert json.loads(run.stdout.splitlines()[-1])["ok"]
