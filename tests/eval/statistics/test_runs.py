"""Oracle: the text of every refusal. What was not played alike makes no common table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gr00t.eval.statistics import compare, read_run
from gr00t.libero.tasks.suites import LiberoError
from tests.eval.statistics.synthetic_runs import solves, write_run

ARMS = {"bf16": solves(), "w4a8": solves()}


def arm(folder: Path, **changes) -> None:
    path = folder / "arms" / "w4a8.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def lines(folder: Path, old: str, new: str, last: int | None = None) -> None:
    """Edit the first lines of the records."""
    path = folder / "episodes.jsonl"
    content = path.read_text().splitlines(keepends=True)
    edited = [line.replace(old, new) for line in content[:last]]
    assert edited != content[:last]
    path.write_text("".join([*edited, *content[len(edited) :]]))


def joined(tmp_path: Path, **other) -> None:
    write_run(tmp_path / "a", ARMS)
    write_run(tmp_path / "b", ARMS, **{"init_states": [4, 5], **other})
    compare([read_run(tmp_path / "a"), read_run(tmp_path / "b")])


@pytest.mark.parametrize(
    ("field", "value", "first"),
    [
        ("assets", "hub", "stand-ins"),
        ("assets_fingerprint", "777", "5fd1a2"),
        ("rendering", "full", "light"),
        ("placement", "wide", "recorded"),
        ("replan_steps", 16, 8),
        ("max_steps", 300, 280),
    ],
)
def test_other_conditions_are_refused_and_both_named(tmp_path: Path, field: str, value, first) -> None:
    with pytest.raises(LiberoError) as refusal:
        joined(tmp_path, **{field: value})
    assert str(refusal.value) == (
        f"these were not played alike and make no common table: {field} is {first!r} (arm 'bf16', "
        f"libero_object task 0, initial state 0, seed 0 in {tmp_path / 'a'}), but {value!r} (arm 'bf16', "
        f"libero_object task 0, initial state 4, seed 0 in {tmp_path / 'b'})"
    )


def test_another_suite_may_have_another_limit_and_other_assets_of_its_own(tmp_path: Path) -> None:
    joined(tmp_path, suite="libero_goal", max_steps=600, assets_fingerprint="777")


def test_an_episode_in_two_folders_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        LiberoError, match=r"initial state 3, seed 0 of arm 'bf16' is in .*/a and again in .*/b"
    ):
        joined(tmp_path, init_states=[3, 4])


def test_an_arm_of_the_same_name_with_other_settings_is_refused(tmp_path: Path) -> None:
    for name, bits in (("a", "8"), ("b", "4")):
        folder = write_run(tmp_path / name, ARMS, init_states=[int(bits)])
        plan = json.loads((folder / "plan.json").read_text())
        plan["arms"]["w4a8"]["settings"] = {"ABITS": bits}
        (folder / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(
        LiberoError, match=r"arm 'w4a8' is not the same in both folders: settings is \{'ABITS': '8'\}"
    ):
        compare([read_run(tmp_path / "a"), read_run(tmp_path / "b")])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "plan.json").unlink(), "is not the folder of a run: .*plan.json is missing"),
        (lambda f: (f / "plan.json").write_text("{"), "plan.json: not JSON"),
        (lambda f: (f / "plan.json").write_text("[]"), "plan.json: expected an object, got list"),
        (lambda f: (f / "plan.json").write_text("{}"), "plan.json: suite: field required"),
        (lambda f: (f / "arms" / "w4a8.json").unlink(), "episodes of arm 'w4a8', but .*w4a8.json is missing"),
        (lambda f: (f / "arms" / "w4a8.json").write_text("1"), "w4a8.json: expected an object, got int"),
        (lambda f: (f / "arms" / "w4a8.json").write_text("{}"), "w4a8.json: name: field required"),
        (lambda f: (f / "arms" / "w4a8.json").write_bytes(b"\xff"), "w4a8.json: not UTF-8: byte 1"),
        (lambda f: arm(f, description="\ud800"), r"w4a8.json: no text: '.{1,2}ud800'"),
        (lambda f: arm(f, name="bf16"), "w4a8.json: name: expected 'w4a8', got 'bf16'"),
        (lambda f: arm(f, kind="zero"), "w4a8.json: kind: 'zero', but 'recipe' in plan.json"),
        (lambda f: arm(f, quantization={"layers": [1]}), "w4a8.json: quantization.layers: input should be"),
        (
            lambda f: arm(f, quantization={"layers": {"a": 1}}),
            "w4a8.json: quantization.layers.a: input should",
        ),
        (lambda f: arm(f, quantized_layers=0), "w4a8' has quantized_layers 116, but .*w4a8.json tells 0"),
        (lambda f: arm(f, denoising_steps=4), "w4a8' has denoising_steps 8, but .*w4a8.json tells 4"),
        (lambda f: arm(f, identity={"sources": "1"}), "w4a8' has identity None, but .*w4a8.json tells"),
        (lambda f: (f / "episodes.jsonl").write_text("{}\n"), r"episodes.jsonl:1: not an episode's record"),
        (lambda f: lines(f, '"task": 1', '"task": 7'), "episodes.jsonl:5: task 7 is not in plan.json, tasks"),
        (
            lambda f: lines(f, '"suite": "libero_object"', '"suite": "libero_goal"'),
            "jsonl:1: suite is 'libero_g",
        ),
        (
            lambda f: lines(f, '"identity": null', '"identity": "x"', 9),
            "different things of this name: identit",
        ),
    ],
)
def test_what_is_missing_or_broken_is_named(tmp_path: Path, spoil, message: str) -> None:
    folder = write_run(tmp_path / "run", ARMS)
    spoil(folder)
    with pytest.raises(LiberoError, match=message):
        read_run(folder)


def test_an_arm_that_was_not_asked_for_is_refused(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", ARMS)
    plan = json.loads((folder / "plan.json").read_text())
    del plan["arms"]["w4a8"]
    (folder / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(LiberoError, match=r"jsonl:9: arm 'w4a8' is not in plan\.json; known: bf16"):
        read_run(folder)


def test_a_run_without_episodes_has_no_verdict(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", ARMS, only=lambda *_: False)
    with pytest.raises(LiberoError, match=r"no episodes in .*run yet"):
        compare([read_run(folder)])
