"""The serving program as a module, and a small checkpoint to serve."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from gr00t.cli import serve
from gr00t.testing.random_checkpoint import write_random_checkpoint


@pytest.fixture(scope="session")
def program() -> ModuleType:
    return serve


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("checkpoint"))
