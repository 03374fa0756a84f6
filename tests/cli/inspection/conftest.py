"""scripts/inspect_dataset.py run in this process, and a small set to run it on."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gr00t.cli.inspection import dataset
from tests.data.lerobot.lerobot_sets import written

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def program() -> Any:
    return dataset


@pytest.fixture
def run(program: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the program: status, stdout, stderr."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["inspect_dataset.py", *map(str, words)])
        try:
            status = program.main()
        except SystemExit as end:
            status = end.code
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("sets") / "set", 5, 7, 4)


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """Episodes 0, 1 and 2 of 5, 7 and 4 rows, to be changed."""
    return shutil.copytree(made, tmp_path / "set")
