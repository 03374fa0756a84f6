"""What scripts/collect_demonstrations.py leaves to be recorded. Oracle: the lists written out."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from gr00t.cli.expert import collect_demonstrations
from gr00t.cli.running import run_program
from gr00t.libero.tasks.suites import find_suite, libero_package, load_tasks

COUNTS = "--workers, --repeats: at least 1 each; --levels: at least one, none below 0"


@pytest.fixture(scope="module")
def program() -> ModuleType:
    return collect_demonstrations


def test_what_is_there_is_not_recorded_again(program: ModuleType, tmp_path: Path) -> None:
    tasks = load_tasks(find_suite("libero_object_prompts"), libero_package())[:2]
    options = program.CollectDemonstrationsOptions(
        tmp_path, "libero_object_prompts", init_states="20-22", placement="wide", repeats=2
    )
    done = {
        ("libero_object_prompts", 0, 21, "wide", 1000),
        ("libero_object_prompts", 1, 20, "recorded", 1001),
    }
    done |= {("libero_object_prompts", 1, state, "wide", 1001) for state in (20, 21, 22)}
    left = [(job.task.index, job.seed, job.init_states) for job in program.jobs(options, tasks, done)]
    assert left == [(0, 1000, [20, 22]), (1, 1000, [20, 21, 22]), (0, 1001, [20, 21, 22])]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"workers": 0}, COUNTS),
        (
            {"levels": (0.0, -0.1)},
            COUNTS,
        ),
        ({"size": 100}, "--size 100: expected a divisor of 256"),
    ],
)
def test_wrong_flags_are_told_with_status_2(
    program: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path, flags: dict[str, Any], said: str
) -> None:
    options = program.CollectDemonstrationsOptions(tmp_path, "libero_object", **flags)
    assert run_program(lambda: program.run(options, {})) == 2
    assert capsys.readouterr().err == f"error: {said}\n"


def test_motion_commands_are_changes_and_the_gripper_is_not(program: ModuleType) -> None:
    absolute = {name: entry.get("absolute", True) for name, entry in program.modality()["action"].items()}
    assert [name for name, value in absolute.items() if value] == ["gripper"]
