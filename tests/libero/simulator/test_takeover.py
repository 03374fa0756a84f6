"""The expert takes over in the real simulator. Oracles: LIBERO's predicate, where things end up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gr00t.libero.assets.standins.folder import write_standins
from gr00t.libero.simulator.environ import choose_backend, simulator_environ
from gr00t.libero.tasks.suites import libero_package

pytestmark = [pytest.mark.libero, pytest.mark.slow]


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Any:
    cache = tmp_path_factory.mktemp("cache")
    base = {**os.environ, "XDG_CACHE_HOME": str(cache), "LIBERO_ASSETS": ""}
    environ = simulator_environ(base, backend=choose_backend("auto", os.environ), package=libero_package())
    program = Path(__file__).parent / "takeover_in_simulator.py"
    result = subprocess.run(
        [sys.executable, str(program), str(write_standins(cache))],
        env=environ,
        cwd=cache,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout)


def test_the_wrong_object_is_put_down_beside_the_basket(facts: Any) -> None:
    assert facts["wrong object"]["in_hand"] == "alphabet_soup_1"
    assert facts["wrong object"]["solved"]
    # The basket is 8 cm from its middle to its walls.
    assert facts["wrong object"]["wrong_beside"] > 0.08


def test_the_right_object_is_carried_on_without_being_put_down(facts: Any) -> None:
    assert facts["right object"]["in_hand"] == "butter_1"
    assert facts["right object"]["solved"]
    # The whole episode takes about 100, and 70 had been done.
    assert facts["right object"]["steps"] < 60


def test_an_arm_whose_elbow_has_snapped_over_comes_back(facts: Any) -> None:
    # Past straight, -0.467, where pulling alone does not bring it back.
    assert facts["far out"]["elbow"] > -0.3
    assert facts["far out"]["solved"]
