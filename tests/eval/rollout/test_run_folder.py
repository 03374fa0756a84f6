"""The folder of a run: what a second start may do with it. Oracle: the bytes that are there."""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from gr00t.eval.arms.facts import ArmFacts
from gr00t.eval.rollout.run_folder import PlayedEpisode, RunFolder, RunFolderError
from gr00t.eval.statistics.runs import read_run
from gr00t.files.output_folder import OutputError
from gr00t.libero.tasks.suites import LiberoError
from tests.eval.rollout.stubs import asked, stub_plan
from tests.eval.rollout.test_records import RECORD, altered

# Of the record that is added, and of none.
PLAN = {**asked(stub_plan(trials=8), w4a8={"kind": "recipe"}), "tasks": [0, 1, 3], "max_steps": 280}
OTHER = asked(stub_plan())
LOST = {"success": None, "simulator_error": "GL went away", "retried": True}


def played(init_state: int, **changes: Any) -> PlayedEpisode:
    record = altered(RECORD, init_state=init_state, video="videos/a/v.mp4", **changes)
    return PlayedEpisode(record, b"film", b"picture")


def test_an_episode_is_kept_with_its_files(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run", PLAN) as folder:
        folder.add(played(7))
    assert (tmp_path / "run" / "videos" / "a" / "v.mp4").read_bytes() == b"film"
    assert (tmp_path / "run" / RECORD.outcome.thumbnail).read_bytes() == b"picture"
    with RunFolder(tmp_path / "run", PLAN) as folder:
        assert [key.init_state for key in folder.records] == [7]
        with pytest.raises(RunFolderError, match="was already played"):
            folder.add(played(7))


def test_a_torn_line_is_cut_off_wherever_it_tore(tmp_path: Path) -> None:
    with RunFolder(tmp_path, PLAN) as folder:
        folder.add(played(0))
        folder.add(played(1))
    whole = folder.episodes.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in (first + 1, first + 100, len(whole) - 1):
        folder.episodes.write_bytes(whole[:cut])
        with RunFolder(tmp_path, PLAN) as again:
            assert [key.init_state for key in again.records] == [0]
            assert again.episodes.read_bytes() == whole[:first]
            again.add(played(1))
        assert folder.episodes.read_bytes() == whole


def test_a_line_that_is_broken_elsewhere_is_not_passed_over(tmp_path: Path) -> None:
    with RunFolder(tmp_path, PLAN) as folder:
        folder.add(played(0))
    folder.episodes.write_bytes(b"{}\n" + folder.episodes.read_bytes())
    with pytest.raises(ValueError, match=r"episodes\.jsonl:1: not an episode's record"):
        RunFolder(tmp_path, PLAN)
    with pytest.raises(ValueError, match="jsonl:1"):
        RunFolder(tmp_path, PLAN)  # not "in use": the refusal gave the lock back


def test_a_second_run_is_kept_out_while_the_first_one_lives(tmp_path: Path) -> None:
    with (
        RunFolder(tmp_path, PLAN),
        pytest.raises(RunFolderError, match=r"in use by another run \(process \d+\)"),
    ):
        RunFolder(tmp_path, PLAN)
    RunFolder(tmp_path, PLAN).close()


@pytest.mark.parametrize(("below", "why"), [("", "File exists"), ("run", "Not a directory")])
def test_a_place_that_cannot_be_a_folder_names_the_option(tmp_path: Path, below: str, why: str) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / below
    said = f"no results can be written to {path} ({why}); name another folder: --output FOLDER"
    with pytest.raises(OutputError, match=f"^{re.escape(said)}$"):
        RunFolder(path, PLAN)


def test_a_full_disk_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    said = (
        f"^no results can be written to {re.escape(str(tmp_path))} .No space left on device.; make room there"
    )
    with RunFolder(tmp_path, PLAN) as folder:
        monkeypatch.setattr(os, "fsync", full)  # the first call that a full disk may fail
        with pytest.raises(OutputError, match=said):
            folder.describe_arm(ArmFacts(name="w4a8", kind="recipe"))
        with pytest.raises(OutputError, match=said):
            folder.add(played(7))
    with pytest.raises(OutputError, match=said):
        RunFolder(tmp_path, PLAN)
    monkeypatch.undo()
    RunFolder(tmp_path, PLAN).close()  # not "in use": the refusal gave the lock back


@pytest.mark.parametrize("name", [".lock", "episodes.jsonl"])
def test_nothing_is_written_through_a_link(tmp_path: Path, name: str) -> None:
    RunFolder(tmp_path / "run", PLAN).close()
    (tmp_path / "mine").touch()
    (tmp_path / "run" / name).unlink(missing_ok=True)
    (tmp_path / "run" / name).symlink_to(tmp_path / "mine")
    with pytest.raises(OutputError, match="Too many levels of symbolic links"):
        RunFolder(tmp_path / "run", PLAN).add(played(7))
    assert (tmp_path / "mine").read_bytes() == b""


def test_a_link_in_the_place_of_a_file_that_is_replaced_is_replaced(tmp_path: Path) -> None:
    RunFolder(tmp_path / "run", PLAN).close()
    (tmp_path / "run" / "plan.json").rename(tmp_path / "mine")
    before = (tmp_path / "mine").read_bytes()
    (tmp_path / "run" / "plan.json").symlink_to(tmp_path / "mine")
    RunFolder(tmp_path / "run", PLAN).close()
    assert (tmp_path / "mine").read_bytes() == before
    assert not (tmp_path / "run" / "plan.json").is_symlink()


@pytest.mark.parametrize("name", ["plan.json", "episodes.jsonl", "arms/w4a8.json"])
def test_a_pipe_is_not_waited_for(tmp_path: Path, name: str) -> None:
    with RunFolder(tmp_path, PLAN) as folder:
        folder.describe_arm(ArmFacts(name="w4a8", kind="recipe"))
        folder.add(played(7))
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(LiberoError, match=f"^{re.escape(str(tmp_path / name))}: expected a file$"):
        read_run(tmp_path)


def test_all_that_would_change_results_is_named(tmp_path: Path) -> None:
    RunFolder(tmp_path, {**OTHER, "assets": "hub"}).close()
    other = {
        **asked(stub_plan(seed=1, max_steps=30), policy={"kind": "recipe", "settings": {"ABITS": "8"}}),
        "assets": "stand-ins",
    }
    with pytest.raises(RunFolderError) as caught:
        RunFolder(tmp_path, other)
    assert str(caught.value).splitlines()[1:] == [
        "  assets: 'hub' there, 'stand-ins' now",
        "  max_steps: 20 there, 30 now",
        "  arm policy, kind: 'address' there, 'recipe' now",
        "  arm policy, settings: None there, {'ABITS': '8'} now",
        "  seeds: 0 there, but not asked for now",
    ]


def test_more_tasks_trials_and_arms_continue_a_run_and_fewer_do_not(tmp_path: Path) -> None:
    RunFolder(tmp_path, OTHER).close()
    grown = {**asked(stub_plan(trials=3), zero={"kind": "zero"}), "seeds": [0, 1]}
    RunFolder(tmp_path, grown).close()
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert (plan["init_states"], plan["seeds"]) == ([0, 1, 2], [0, 1])
    assert list(plan["arms"]) == ["policy", "zero"]
    with pytest.raises(RunFolderError, match="init_states: 2 there, but not asked for now"):
        RunFolder(tmp_path, OTHER)


def test_episodes_without_a_plan_are_not_added_to(tmp_path: Path) -> None:
    (tmp_path / "episodes.jsonl").touch()
    with pytest.raises(RunFolderError, match=r"holds episodes but no plan\.json"):
        RunFolder(tmp_path, PLAN)


def test_another_simulator_does_not_continue_a_run(tmp_path: Path) -> None:
    with RunFolder(tmp_path, PLAN) as folder:
        folder.add(played(0))
        # An episode whose simulator never came up says nothing of its versions.
        folder.add(played(1, **LOST, versions={"gr00t": "1"}))
        with pytest.raises(RunFolderError, match="begun with mujoco 3, now it is unknown"):
            folder.add(played(2, versions={"gr00t": "1"}))
        with pytest.raises(RunFolderError, match="begun with mujoco 3, now it is 4"):
            folder.add(played(2, versions={"mujoco": "4"}))
    assert len(folder.episodes.read_text().splitlines()) == 2


def test_what_an_arm_was_is_remembered(tmp_path: Path) -> None:
    with RunFolder(tmp_path, PLAN) as folder:
        assert folder.known_arm("policy") is None
        facts = {"name": "policy", "kind": "address", "quantized_layers": 116, "of a later version": [1]}
        folder.describe_arm(ArmFacts.model_validate(facts))
        assert folder.known_arm("policy") == ArmFacts.model_validate(facts)
        assert json.loads((tmp_path / "arms" / "policy.json").read_text()) == facts
        (tmp_path / "arms" / "policy.json").write_text('{"name": "other", "kind": "address"}')
        with pytest.raises(LiberoError, match=r"policy\.json: name: expected 'policy', got 'other'"):
            folder.known_arm("policy")


def test_an_episode_that_was_lost_may_be_played_again(tmp_path: Path) -> None:
    with RunFolder(tmp_path, PLAN) as folder:
        folder.add(played(0, **LOST))
        assert not folder.has_played(played(0).record.key)
        folder.add(played(0))
        with pytest.raises(RunFolderError, match="was already played"):
            folder.add(played(0, **LOST))
    with RunFolder(tmp_path, PLAN) as again:
        assert [record.outcome.success for record in again.records.values()] == [True]
    assert len(folder.episodes.read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "plan.json: not JSON"),
        (b"[]", "plan.json: expected an object, got list"),
        (b"{}", "plan.json: suite: field required"),
        (b"\xff", "plan.json: not UTF-8: byte 1"),
        (b'{"tasks": [0], "tasks": [1]}', "plan.json: not JSON: an object has two entries 'tasks'"),
        ({"tasks": "0"}, "plan.json: tasks: input should be a valid list, got '0'"),
        ({"tasks": [0, 0]}, "plan.json: tasks: 0 is there twice"),
        ({"seeds": []}, "plan.json: seeds: list should have at least 1 item"),
        (
            {"init_states": [-1]},
            "plan.json: init_states.0: input should be greater than or equal to 0, got -1",
        ),
        ({"arms": {}}, "plan.json: arms: dictionary should have at least 1 item"),
        ({"arms": {"policy": {}}}, "plan.json: arms.policy.kind: field required"),
        ({"arms": {"policy": {"kind": "best"}}}, "plan.json: arms.policy.kind: input should be 'recipe'"),
        ({"arms": {"../x": {"kind": "zero"}}}, "plan.json: arms.../x.*string should match pattern"),
        ({"max_steps": 2.5}, "plan.json: max_steps: input should be a valid integer, got 2.5"),
    ],
)
def test_an_edited_plan_is_named_with_what_is_wrong_in_it(tmp_path: Path, content: Any, message: str) -> None:
    RunFolder(tmp_path, PLAN).close()
    if isinstance(content, dict):
        content = json.dumps({**PLAN, **content}).encode()
    (tmp_path / "plan.json").write_bytes(content)
    with pytest.raises(LiberoError, match=message):
        RunFolder(tmp_path, PLAN)
