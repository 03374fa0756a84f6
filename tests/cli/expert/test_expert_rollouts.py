"""scripts/expert_rollouts.py: it plays on several simulators, and repeats itself bit for bit.

Oracles: LIBERO's own predicates, a second process, and the messages written out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gr00t.libero.simulator.environ import choose_backend, simulator_environ
from gr00t.libero.tasks.suites import libero_package
from tests.libero.real_assets import REAL_ASSETS


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables with a cache of our own, and without assets of the user's."""
    cache = str(tmp_path_factory.mktemp("xdg"))
    base = {**os.environ, "XDG_CACHE_HOME": cache, "LIBERO_ASSETS": ""}
    return simulator_environ(base, backend=choose_backend("auto", os.environ), package=libero_package())


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


def rollouts(repo: Path, environ: dict[str, str], *arguments: str) -> Any:
    """The last line of scripts/expert_rollouts.py."""
    program = str(repo / "scripts" / "expert_rollouts.py")
    return json.loads(run(environ, program, *arguments).splitlines()[-1])


@pytest.mark.libero
def test_the_script_plays_on_several_simulators_and_reports(repo: Path, environ: dict[str, str]) -> None:
    arguments = ("libero_object", "--tasks", "6", "--init-states", "1,3", "--workers", "2")
    result = rollouts(repo, environ, *arguments, "--assets", "stand-ins")
    assert (result["episodes"], result["solved"], result["simulator_errors"]) == (2, 2, 0)
    assert (result["suite"], result["assets"], result["max_steps"]) == ("libero_object", "stand-ins", 280)
    assert result["failed"] == []


@pytest.mark.libero
@pytest.mark.slow
def test_the_number_of_simulators_and_the_assets_change_no_action(
    repo: Path, environ: dict[str, str]
) -> None:
    for suite in ("libero_object", "libero_spatial", "libero_goal", "libero_10"):
        arguments = (suite, "--tasks", "4,6", "--init-states", "0,7", "--assets")
        two = rollouts(repo, environ, *arguments, "stand-ins", "--workers", "2")["actions_sha256"]
        assert rollouts(repo, environ, *arguments, "stand-ins")["actions_sha256"] == two
        if REAL_ASSETS:
            assert rollouts(repo, environ, *arguments, REAL_ASSETS)["actions_sha256"] == two


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["libero_objetc"], 1, "error: unknown LIBERO suite 'libero_objetc': did you mean libero_object?"),
        (
            ["libero_object", "--init-states", "0-50"],
            1,
            "error: initial states '0-50': 0-50 is not within 0-49",
        ),
        (["libero_object", "--workers", "0"], 2, "error: --workers must be at least 1, --noise at least 0"),
        (["libero_object", "--noise", "-0.1"], 2, "error: --workers must be at least 1, --noise at least 0"),
    ],
)
@pytest.mark.libero
def test_requests_that_cannot_be_met(repo: Path, arguments: list[str], status: int, message: str) -> None:
    program = str(repo / "scripts" / "expert_rollouts.py")
    result = subprocess.run([sys.executable, program, *arguments], capture_output=True, text=True)
    assert result.returncode == status
    assert result.stderr.strip() == message


@pytest.mark.libero
@pytest.mark.slow
@pytest.mark.parametrize(
    ("suite", "tasks"),
    [("libero_object", "all"), ("libero_spatial", "all"), ("libero_goal", "1,2,4,6,8,9")],
)
def test_the_expert_solves_97_percent(repo: Path, environ: dict[str, str], suite: str, tasks: str) -> None:
    arguments = ("--tasks", tasks, "--init-states", "0-4", "--workers", "2", "--assets", "stand-ins")
    result = rollouts(repo, environ, suite, *arguments)
    assert result["success_rate"] >= 0.97, result["failed"]
