"""Oracle: the problem of LIBERO's own task, line by line."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from gr00t.libero.tasks.prompts import description, problem_file
from gr00t.libero.tasks.suites import LiberoError, find_suite, libero_package, load_tasks

OBJECTS = ("alphabet_soup", "butter", "cream_cheese", "milk", "salad_dressing")


def test_prompts_change_goal_and_instruction_and_nothing_else() -> None:
    scene = load_tasks(find_suite("libero_object"), libero_package())[0]
    tasks = load_tasks(find_suite("object-prompts"), libero_package())
    assert [task.language for task in tasks] == [
        f"pick up the {name.replace('_', ' ')} and place it in the basket" for name in OBJECTS
    ]
    original = scene.bddl.read_text().splitlines()
    for number, (name, task) in enumerate(zip(OBJECTS, tasks, strict=True)):
        changed = [
            new.strip()
            for old, new in zip(original, description(task).splitlines(), strict=True)
            if old != new
        ]
        wanted = [f"(:language {task.language})"]
        if name != "alphabet_soup":
            wanted += [f"{name}_1", f"(And (In {name}_1 basket_1_contain_region))"]
        assert changed == wanted
        assert (task.suite, task.index) == ("libero_object_prompts", number)
        assert task.init_states == scene.init_states


def test_a_task_of_liberos_own_is_read_from_its_own_file() -> None:
    task = load_tasks(find_suite("libero_goal"), libero_package())[2]
    with problem_file(task) as path:
        assert path == task.bddl


def test_another_scene_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.bddl"
    other.write_text("(define (problem X) (:goal (And (On bowl_1 plate_1))))")
    task = load_tasks(find_suite("object_prompts"), libero_package())[1]
    with pytest.raises(LiberoError, match=r"other\.bddl: expected a problem .* butter_1 too"):
        description(dataclasses.replace(task, bddl=other))
