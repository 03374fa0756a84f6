"""What is checked before a commit. Oracle: what run_tests.sh checks before it runs the tests."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shell import REPO


def hooks() -> dict[str, dict[str, str]]:
    """The hooks by their names."""
    yaml = pytest.importorskip("yaml")
    (repository,) = yaml.safe_load((REPO / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    return {hook["name"]: hook for hook in repository["hooks"]}


def checks(script: str) -> dict[str, str]:
    """Commands of run_tests.sh by the names of their checks, in its environment."""
    found = re.findall(r'^check "(.+?)" (.+)$', script, re.MULTILINE)
    return {name: command.replace('"$python"', ".venv/bin/python") for name, command in found}


def test_a_commit_is_checked_as_a_test_run_is() -> None:
    wanted = checks((REPO / "run_tests.sh").read_text())
    assert len(wanted) >= 4
    assert {name: hook["entry"] for name, hook in hooks().items()} == wanted
    # With the names of the changed files ruff would look at what pyproject.toml excludes, and mypy at parts.
    assert all(hook["language"] == "system" and hook["pass_filenames"] is False for hook in hooks().values())


def test_an_additional_check_of_the_test_run_is_seen() -> None:
    script = (REPO / "run_tests.sh").read_text() + 'check "clang-format" "$python" -m x --dry-run\n'
    assert checks(script)["clang-format"] == ".venv/bin/python -m x --dry-run"


def test_the_table_of_variables_is_checked_and_not_written(tmp_path: Path) -> None:
    copy = tmp_path / "scripts" / "update_variables.py"
    copy.parent.mkdir()
    (tmp_path / "docs").mkdir()
    copy.write_text((REPO / "scripts" / "update_variables.py").read_text())
    document = tmp_path / "docs" / "QUANTIZATION.md"
    text = (REPO / "docs" / "QUANTIZATION.md").read_text()

    def check() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(copy), "--check"]
        return subprocess.run(
            command, env={"PYTHONPATH": str(REPO)}, capture_output=True, text=True, check=False
        )

    document.write_text(text)
    assert check().returncode == 0
    document.write_text(
        changed := text.replace("| `GR00T_DUQUANT_ABITS` | `8` |", "| `GR00T_DUQUANT_ABITS` | `9` |")
    )
    assert changed != text
    out_of_date = check()
    assert (out_of_date.returncode, out_of_date.stderr) == (
        1,
        "QUANTIZATION.md is out of date; run: python scripts/update_variables.py\n",
    )
    assert document.read_text() == changed
