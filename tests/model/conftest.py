"""Fixtures of the model's tests: the parity sets, and a tiny model to change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gr00t.model.gr00t_n1 import GR00T_N1_5
from tests.model.parity_set import PARITY, SETS, ParitySet
from tests.serving.conftest import checkpoint, program

__all__ = ["checkpoint", "folder", "model", "parity", "program", "tiny_a"]


@pytest.fixture(scope="session", params=SETS, ids=lambda folder: folder.name)
def parity(request: pytest.FixtureRequest) -> ParitySet:
    """Every parity set in turn."""
    return ParitySet.load(request.param)


@pytest.fixture(scope="session")
def tiny_a() -> Path:
    """The folder of the tiny checkpoint, in the reference's own format."""
    return PARITY / "tiny_a"


@pytest.fixture
def model(tiny_a: Path) -> GR00T_N1_5:
    """A fresh tiny model that a test may change."""
    return GR00T_N1_5.from_pretrained(tiny_a)


@pytest.fixture
def folder(tmp_path: Path, tiny_a: Path) -> Path:
    """A copy of the tiny checkpoint that a test may damage."""
    for name in ("config.json", "eagle_config.json", "model.safetensors"):
        shutil.copyfile(tiny_a / name, tmp_path / name)
    return tmp_path
