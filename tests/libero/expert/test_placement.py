"""Oracles: distances by hand, the recorded places, and the expert."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gr00t.libero.assets.standins.folder import write_standins
from gr00t.libero.expert.placement import GAP, REACH, draw_places
from gr00t.libero.simulator.environ import choose_backend, simulator_environ
from gr00t.libero.simulator.simulator import SETTLING_STEPS
from gr00t.libero.tasks.suites import libero_package


def test_places_lie_within_reach_and_apart() -> None:
    circles = [(np.array([x, y]), 0.04) for x in (0.0, 0.13) for y in (0.0, 0.13)]
    fixed = [(np.array([0.065, 0.3]), 0.1)]
    spread = []
    for seed in range(50):
        places = draw_places(circles, fixed, np.random.default_rng(seed))
        if places is None:
            continue
        standing = [*zip(places, [0.04] * 4, strict=True), *fixed]
        for index, (place, radius) in enumerate(standing):
            for other, r in standing[:index]:
                assert np.linalg.norm(place - other) >= radius + r + GAP
        moves = np.array(places) - [center for center, _ in circles]
        assert np.abs(moves).max() <= REACH
        spread.append(moves)
    # A uniform draw in +-8 cm has a deviation of 4.6 cm; refused draws make it a little less.
    assert 0.035 < np.std(spread) < 0.055


def test_what_does_not_fit_is_told() -> None:
    crowded = [(np.zeros(2), 0.2), (np.zeros(2), 0.2)]
    assert draw_places(crowded, [], np.random.default_rng(0)) is None


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Any:
    cache = tmp_path_factory.mktemp("cache")
    base = {**os.environ, "XDG_CACHE_HOME": str(cache), "LIBERO_ASSETS": ""}
    environ = simulator_environ(base, backend=choose_backend("auto", os.environ), package=libero_package())
    program = Path(__file__).parent / "placement_in_simulator.py"
    result = subprocess.run(
        [sys.executable, str(program), str(write_standins(cache))],
        env=environ,
        cwd=cache,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout)


@pytest.mark.libero
def test_every_object_moves_within_reach_and_stays_on_the_floor(facts: Any) -> None:
    assert len(facts["recorded"]) == 7
    moves = {name: np.subtract(facts["wide"][name], place) for name, place in facts["recorded"].items()}
    for name, move in moves.items():
        # They settle: by at most 1 cm, else the placement does not count.
        assert np.linalg.norm(move[:2]) > 0.001, name
        assert np.abs(move[:2]).max() < REACH + 0.01, name
        assert abs(move[2]) < 0.002, name


@pytest.mark.libero
def test_a_placement_follows_from_its_seed_and_the_expert_solves_it(facts: Any) -> None:
    assert facts["again"]
    assert facts["wide_positions"] != facts["other_seed_positions"]
    assert facts["goals"] == [["in", "butter_1", "basket_1_contain_region"]]
    assert facts["solved"]


@pytest.mark.libero
def test_a_placement_that_is_not_proven_is_the_first_that_stands(facts: Any) -> None:
    # Under this seed the first one can be solved, and counts either way.
    assert facts["unproven"]
    assert facts["remembered"] == 0


@pytest.mark.libero
def test_a_placement_is_proven_once(facts: Any) -> None:
    # Task 1 of the prompts, seeds 0 and 1, state 3: known when the task is opened again.
    assert facts["known"] == [["libero_object_prompts", seed, 1, 3] for seed in (0, 1)]
    assert facts["same_place"]
    # Those of LIBERO and those of the placement; proven anew, both twice and the expert's between them.
    assert facts["reopened"] == SETTLING_STEPS + 15
    assert facts["proven_anew"] > 2 * facts["reopened"] + 80
