"""Fixtures of the tests of GR00T N1.7."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.model.gr00t_n1d7.recorded_set import SETS, TINY, RecordedSet


@pytest.fixture(scope="session", params=SETS, ids=lambda folder: folder.name)
def recorded(request: pytest.FixtureRequest) -> RecordedSet:
    """Every set in turn; not to be changed."""
    return RecordedSet.load(request.param)


@pytest.fixture
def tiny() -> RecordedSet:
    """A set whose model a test may change."""
    return RecordedSet.load(TINY)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint that a test may damage."""
    for path in TINY.iterdir():
        if not path.name.startswith("golden"):
            shutil.copyfile(path, tmp_path / path.name)
    return tmp_path
