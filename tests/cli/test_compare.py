"""Oracle: what a user of scripts/compare.py sees."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from gr00t.cli import compare
from gr00t.cli.running import run_program
from tests.eval.statistics.synthetic_runs import solves, write_run
from tests.shell import REPO


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return compare


def run_as_a_process(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "scripts/compare.py", *map(str, arguments)],
        cwd=REPO,
        env={**os.environ, "PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_prints_the_tables_and_writes_what_is_asked_for(tmp_path: Path) -> None:
    for suite in ("libero_spatial", "libero_object"):
        write_run(tmp_path / suite, {"bf16": solves(), "w4a8": solves((0, 0))}, suite=suite)
    files = [tmp_path / name for name in ("o.json", "o.md", "o.html")]
    flags = zip(("--json", "--markdown", "--html"), map(str, files), strict=True)
    folders = [tmp_path / "libero_spatial", tmp_path / "libero_object"]
    run = run_as_a_process(*folders, "--margin", "40", *(part for pair in flags for part in pair))
    assert (run.returncode, run.stderr) == (0, "")
    assert "Against bf16, at a margin of 40 points" in run.stdout
    assert run.stdout.endswith("It is not worse by 40 points or more.\n")
    found = json.loads(files[0].read_text())
    assert found["suites"] == ["libero_spatial", "libero_object"]
    assert files[1].read_text().startswith("# LIBERO: libero\\_spatial, libero\\_object\n")
    assert files[2].read_text().startswith("<!DOCTYPE html>")


def status_of(script: Any, arguments: Any) -> int:
    return run_program(lambda: script.run(arguments))


def test_refusals_are_one_line_and_status_1(script, capsys, tmp_path: Path) -> None:
    folders = tuple(
        write_run(tmp_path / name, {"bf16": solves()}, rendering=name) for name in ("full", "light")
    )
    assert status_of(script, script.CompareArguments(folders)) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(
        "error: these were not played alike and make no common table: rendering is 'full'"
    )
    assert told.err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        ({"margin": 0.0}, 2, "--margin 0: expected points above 0 and below 100"),
        ({"baseline": "w4a9"}, 1, "no arm 'w4a9' in this run: did you mean w4a8?"),
        ({"folders": ()}, 2, "no folder given; expected those that scripts/evaluate.py wrote"),
        (
            {"folders": (Path("nowhere"),)},
            1,
            "nowhere is not the folder of a run: nowhere/plan.json is missing",
        ),
        (
            {"json": Path("nowhere") / "o.json"},
            1,
            "[Errno 2] No such file or directory: 'nowhere/o.json'",
        ),
    ],
)
def test_wrong_arguments_are_named(
    script, capsys, tmp_path: Path, options: dict[str, Any], status: int, message: str
) -> None:
    folder = write_run(tmp_path / "a", {"bf16": solves(), "w4a8": solves()})
    assert status_of(script, script.CompareArguments(**{"folders": (folder,), **options})) == status
    assert capsys.readouterr().err == f"error: {message}\n"


def test_runs_of_different_simulators_are_compared_only_on_demand(script, capsys, tmp_path: Path) -> None:
    folders = tuple(
        write_run(tmp_path / arm, {arm: solves()}, versions={"mujoco": version, "robosuite": "1.4.0"})
        for arm, version in (("bf16", "3.3.2"), ("w4a8", "3.8.1"))
    )
    assert status_of(script, script.CompareArguments(folders)) == 1
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert "mujoco is 3.3.2 (arm 'bf16'" in told.err
    assert "3.8.1 (arm 'w4a8'" in told.err
    assert status_of(script, script.CompareArguments(folders, allow_mixed=True)) == 0
    assert "WARNING: episodes of different simulators are compared" in capsys.readouterr().out
