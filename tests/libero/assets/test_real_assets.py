"""LIBERO's own meshes and textures, where they are installed. Oracle: the stand-ins' physics, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gr00t.libero.assets.completeness import what_is_wrong
from gr00t.libero.assets.packages import packages_folder, packages_problem
from gr00t.libero.tasks.suites import SUITES
from tests.libero.assets.standins import test_standins_simulator as simulated
from tests.libero.assets.standins.test_standins_simulator import check, measure
from tests.libero.real_assets import REAL_ASSETS, needs_real_assets

pytestmark = [pytest.mark.libero, needs_real_assets]
environ, standins = simulated.environ, simulated.standins

# The stove, the cabinet, bowls, a plate, a ramekin, a box of cookies.
SAMPLE = "libero_spatial:4"


@pytest.fixture(scope="module")
def played(standins: Path, environ: dict[str, str]) -> tuple[Any, Any]:
    """The sample with the stand-ins, and with LIBERO's own."""
    (ours,), (theirs,) = (
        measure(environ, folder, "drawn_and_thrown", SAMPLE) for folder in (standins, REAL_ASSETS)
    )
    return ours, theirs


@pytest.mark.skipif(
    packages_folder() is None, reason="enable with: ./scripts/setup_env.sh libero-assets (357 MB)"
)
@pytest.mark.parametrize("suite", SUITES)
def test_the_packages_are_complete_for_every_suite(suite: str) -> None:
    assert packages_problem(suite) == ""


def test_a_frame_is_drawn_with_them_and_looks_otherwise(played: tuple[Any, Any]) -> None:
    ours, theirs = (np.array(result["frames"], dtype=float) for result in played)
    assert ours.shape == theirs.shape == (2, 256, 256, 3)
    # Standard deviation of grey levels, measured: 52 and 64; a blank frame has 0.
    assert theirs.std(axis=(1, 2, 3)).min() > 20
    # Mean difference of a grey level, measured: 15.7 and 11.7; the robot and the arrangement are the same.
    different = np.abs(ours - theirs).mean(axis=(1, 2, 3))
    assert different.min() > 5
    assert different.max() < 40


def test_thrown_objects_move_as_with_the_stand_ins(played: tuple[Any, Any]) -> None:
    ours, theirs = played
    for name in ("positions", "contacts", "mass", "inertia"):
        assert ours[name] == theirs[name], name
    # As in test_standins_simulator.py: in 60 steps something meets something, and goes somewhere.
    assert np.ptp(np.array(theirs["positions"]), axis=0).max() > 0.3
    assert theirs["contacts"] > 300


@pytest.mark.slow
def test_every_task_of_the_suite_without_stand_ins_takes_states_and_is_drawn(environ: dict[str, str]) -> None:
    if wrong := what_is_wrong(Path(REAL_ASSETS), "libero_90"):
        pytest.skip(f"{REAL_ASSETS} {wrong}")
    results = measure(environ, REAL_ASSETS, "a_few_states", "libero_90")
    assert len(results) == 90
    for result in results:
        check(result)
