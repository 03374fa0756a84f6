"""Shared by the tests of the evaluation program: a clean environment, stubs for simulators."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gr00t.libero.simulator.setup import SimulatorSetup
from tests.eval.rollout.stubs import StubSimulator
from tests.shell import REPO


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """The variables of a user with an empty cache and no hub."""
    kept = {name: value for name, value in os.environ.items() if name not in ("LIBERO_ASSETS", "MUJOCO_GL")}
    return {
        **{name: value for name, value in kept.items() if not name.startswith("GR00T_")},
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(REPO),
    }


@pytest.fixture
def stub_simulators(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stubs in place of LIBERO's simulators; tasks, initial states and assets are LIBERO's."""
    pytest.importorskip("libero")
    monkeypatch.setattr(SimulatorSetup, "make", lambda self, number: StubSimulator({(3, 1): 5}, {}))
