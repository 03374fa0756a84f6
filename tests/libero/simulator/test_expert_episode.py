"""The expert in the real simulator: it solves a task, repeats itself bit for bit, and tells each step.

Oracles: LIBERO's own predicates, and an open-loop replay of the recorded actions.
"""

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


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables with a cache of our own, and without assets of the user's."""
    cache = str(tmp_path_factory.mktemp("xdg"))
    base = {**os.environ, "XDG_CACHE_HOME": cache, "LIBERO_ASSETS": ""}
    return simulator_environ(base, backend=choose_backend("auto", os.environ), package=libero_package())


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory, environ: dict[str, str]) -> Any:
    standins = write_standins(tmp_path_factory.mktemp("cache"))
    program = Path(__file__).parent / "expert_episode_in_simulator.py"
    return json.loads(run(environ, str(program), str(standins)))


def run(environ: dict[str, str], *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, *arguments],
        env=environ,
        cwd=environ["XDG_CACHE_HOME"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


@pytest.mark.libero
def test_the_expert_solves_a_task_and_its_actions_alone_solve_it_again(facts: Any) -> None:
    assert facts["success"]
    # Measured: 103. The limit of published evaluations of this suite is 280.
    assert 60 < facts["steps"] < 140
    assert facts["replayed"] == [True, facts["steps"]]
    assert facts["largest_action"] <= 1.0
    assert facts["renders"] == 0, "nobody looks at the images"
    assert not facts["torch"]


@pytest.mark.libero
def test_an_object_that_the_prompt_does_not_name_is_told_when_it_is_lifted(facts: Any) -> None:
    assert facts["lifted"] == {
        "own prompt": None,
        "other prompt": "butter_1",
        "later": "butter_1",
        "next episode": None,
    }


@pytest.mark.libero
def test_an_episode_is_the_same_after_other_episodes_and_tasks_and_when_drawn(facts: Any) -> None:
    assert facts["again"]
    assert facts["noise_repeats"]
    assert facts["watched"]
    assert facts["noise_differs"] > 0.1
    frames = facts["steps"] // 25 + (facts["steps"] % 25 > 0)
    assert facts["frames"] == [[256, 256, 3]] * frames


@pytest.mark.libero
def test_a_demonstration_has_what_is_seen_done_and_meant(facts: Any) -> None:
    assert facts["executed"]
    assert facts["same_gripper"]
    # Mean of |N(0, 0.3)| is 0.24; commands at their limit of 1 are cut half of the time.
    assert 0.1 < facts["meant_differs"] < 0.3
    assert [shape for shape, _ in facts["seen"]] == [[256, 256, 3]] * 2
    (_, before), (_, after) = facts["seen"]
    assert before != after
