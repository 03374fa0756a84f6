"""The checkpoint-N folders of a run. Oracles: a run that was not interrupted, and what a kill leaves."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from examples.Libero.custom_data_config import LiberoDataConfig
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.model.policy import Gr00tPolicy
from gr00t.testing.random_checkpoint import write_random_checkpoint
from gr00t.testing.synthetic import synthetic_observation
from gr00t.training.run_checkpoints import checkpoints_of, new_checkpoint
from gr00t.training.state import StateError, read_state, write_state
from tests.cli.training.training_runs import TrainArguments, fine_tune, run, train_as_asked, write_set

STEPS = ("--max-steps", "4", "--save-steps", "1", "--save-total-limit", "3", "--logging-steps", "1")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("demonstrations") / "set")


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("start"), torch_dtype=torch.float32)


@pytest.fixture(scope="module")
def whole(data: Path, start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of four steps; tests work on copies."""
    folder = tmp_path_factory.mktemp("whole")
    fine_tune(data, start, folder, *STEPS)
    return folder


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "run")
    return tmp_path / "run"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return GR00T_N1_5.from_pretrained(folder).state_dict()


def same(first: Path, second: Path) -> bool:
    one, other = weights(first), weights(second)
    return all(torch.equal(value, other[name]) for name, value in one.items())


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if "checkpoint" in path.name}


def test_each_checkpoint_serves_and_the_result_is_the_last_one_by_another_name(whole: Path) -> None:
    assert names(whole) == {"checkpoint-2", "checkpoint-3", "checkpoint-4"}
    assert same(whole, whole / "checkpoint-4")
    assert not same(whole, whole / "checkpoint-3")
    assert not (whole / "training_state.pt").exists()
    shard = "model-00001-of-00001.safetensors"
    assert (whole / shard).samefile(whole / "checkpoint-4" / shard)  # on disk once
    for folder in (whole, whole / "checkpoint-2"):
        config = LiberoDataConfig()
        policy = Gr00tPolicy(
            str(folder), "new_embodiment", config.modality_config(), config.transform(), environ={}
        )
        shown = synthetic_observation(config.modality_config(), policy.metadata, "lift it", 0)
        assert policy.get_action(shown, seeds=0)["action.x"].shape == (16, 1)


def test_a_run_goes_on_from_the_newest_checkpoint_that_is_whole(
    copy: Path, whole: Path, data: Path, start: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(copy / "checkpoint-4")
    damage(copy / "checkpoint-3" / "training_state.pt")
    with caplog.at_level(logging.INFO, logger="gr00t"):
        assert fine_tune(data, start, copy, *STEPS, "--resume")["steps"] == 4
    assert f"{copy}/checkpoint-3/training_state.pt: damaged: " in caplog.text
    assert "going on from the one before it" in caplog.text
    assert "going on from step 2 of 4" in caplog.text
    for step in (2, 3, 4):
        assert same(copy / f"checkpoint-{step}", whole / f"checkpoint-{step}"), step
    assert same(copy, whole)
    lines = [json.loads(line) for line in (copy / "training.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 3, 4]
    assert [line["loss"] for line in lines[2:4]] == [line["loss"] for line in lines[4:]]


def damage(state: Path) -> None:
    """Turn one bit in the middle."""
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1
    state.write_bytes(content)


def test_where_every_state_is_damaged_nothing_begins(copy: Path, data: Path, start: Path) -> None:
    for step in (2, 3, 4):
        damage(copy / f"checkpoint-{step}" / "training_state.pt")
    with pytest.raises(
        StateError, match=r"checkpoint-2/training_state.pt: damaged: .*; there is none before it"
    ):
        fine_tune(data, start, copy, *STEPS, "--resume")


@pytest.mark.parametrize("cut", [0, 100, 20_000, -1])
def test_a_state_that_was_cut_is_damaged(whole: Path, tmp_path: Path, cut: int) -> None:
    content = (whole / "checkpoint-4" / "training_state.pt").read_bytes()
    (tmp_path / "training_state.pt").write_bytes(content[:cut])
    with pytest.raises(StateError, match=f"{tmp_path}/training_state.pt: damaged"):
        read_state(tmp_path / "training_state.pt", torch.device("cpu"))


def test_what_is_no_state_of_a_run_is_refused(tmp_path: Path) -> None:
    write_state({"step": 3}, tmp_path)
    with pytest.raises(
        StateError, match="not the state of a run: expected average, optimizer, parameters, run, step"
    ):
        read_state(tmp_path / "training_state.pt", torch.device("cpu"))


def test_who_is_killed_while_saving_leaves_nothing_that_loads(
    copy: Path, data: Path, start: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    left: dict[str, Any] = {}

    def die(self: object, folder: Path) -> None:
        left["files"] = sorted(path.name for path in folder.iterdir())
        left["loads"] = (folder / "config.json").exists()
        shutil.copytree(folder, copy / "kept")
        raise Killed

    shutil.rmtree(copy / "checkpoint-4")
    monkeypatch.setattr(GR00T_N1_5, "save_pretrained", die)
    with pytest.raises(Killed):
        fine_tune(data, start, copy, *STEPS, "--resume")
    assert left == {"files": ["experiment_cfg", "tokenizer.json", "training_state.pt"], "loads": False}
    assert names(copy) == {"checkpoint-2", "checkpoint-3"}
    # SIGKILL leaves the folder itself, hidden; the next run removes it.
    (copy / "kept").rename(copy / ".checkpoint-4.0123456789abcdef.partial")
    (copy / "checkpoint-2").rename(copy / ".checkpoint-2.removed")
    assert [step for step, _ in checkpoints_of(copy)] == [3]
    monkeypatch.undo()
    fine_tune(data, start, copy, *STEPS, "--resume")
    assert names(copy) == {"checkpoint-3", "checkpoint-4"}


@pytest.mark.parametrize("where", ["state", "weights"])
def test_a_full_disk_is_one_error_and_leaves_the_checkpoints_of_before(
    copy: Path, data: Path, start: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors import SafetensorError

    from gr00t.model.checkpoint import folder as checkpoint

    def refuse(*_: object, **__: object) -> None:
        if where == "weights":
            # As safetensors says it, by itself.
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    shutil.rmtree(copy / "checkpoint-4")
    target = (checkpoint, "save_file") if where == "weights" else (torch, "save")
    monkeypatch.setattr(*target, refuse)
    with pytest.raises(
        OSError, match=rf"no results can be written to {copy} \(No space left on device\); make room"
    ):
        fine_tune(data, start, copy, *STEPS, "--resume")
    assert names(copy) == {"checkpoint-2", "checkpoint-3"}


def test_a_run_that_begins_does_not_replace_another_one(copy: Path, data: Path, start: Path) -> None:
    with pytest.raises(
        ValueError, match=rf"{copy} holds a run up to step 4, .*; go on with --resume, or name"
    ):
        fine_tune(data, start, copy, *STEPS)
    with pytest.raises(
        ValueError, match=rf"--resume: {copy}/none has no checkpoint-N with a training_state.pt"
    ):
        fine_tune(data, start, copy / "none", *STEPS, "--resume")


def test_two_trainings_do_not_share_a_folder(copy: Path, data: Path, start: Path) -> None:
    before = names(copy)
    handle = os.open(copy, os.O_RDONLY)  # as the other program would hold it
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(ValueError, match=f"{copy}: another training is at work there; wait for it, or name"):
        fine_tune(data, start, copy, *STEPS, "--resume")
    assert names(copy) == before
    os.close(handle)
    fine_tune(data, start, copy, *STEPS, "--resume")


def test_who_is_refused_does_not_remove_the_folder_of_who_is_at_work(
    data: Path,
    start: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "new"
    output.mkdir()
    handle = os.open(output, os.O_RDONLY)  # the other one has begun, and written nothing yet
    fcntl.flock(handle, fcntl.LOCK_EX)
    words = ["--data", data, "--checkpoint", start, "--output", output, "--steps", "1", "--device", "cpu"]
    monkeypatch.setattr("sys.argv", ["train.py", *map(str, words)])
    assert train_as_asked(TrainArguments, None) == 2
    assert "another training is at work there" in capsys.readouterr().err
    assert output.is_dir()
    os.close(handle)
    monkeypatch.setattr("sys.argv", [*sys.argv, "--seed", "0", "--data-config", "none"])
    assert train_as_asked(TrainArguments, None) == 1
    assert not output.exists()


def test_other_data_or_another_start_do_not_go_on(
    copy: Path, data: Path, start: Path, tmp_path: Path
) -> None:
    other = write_set(tmp_path / "other", range(5, 7))  # as many steps
    with pytest.raises(
        ValueError, match=r"is of another run: data \w{12} -> \w{12}, rows \w{12} -> \w{12}; name another"
    ):
        fine_tune(other, start, copy, *STEPS, "--resume")
    weights = write_random_checkpoint(tmp_path / "weights", seed=1, torch_dtype=torch.float32)
    with pytest.raises(
        ValueError, match=r"is of another run: start [0-9a-f]{12} -> [0-9a-f]{12}; name another"
    ):
        fine_tune(data, weights, copy, *STEPS, "--resume")


def test_other_instructions_frames_or_transforms_do_not_go_on(
    data: Path, start: Path, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = shutil.copytree(data, tmp_path / "set")
    fine_tune(other, start, copy, *STEPS, "--resume")  # a set may be moved
    tasks = other / "meta" / "tasks.jsonl"
    tasks.write_text(tasks.read_text().replace("lift", "drop"))
    with pytest.raises(ValueError, match=r"is of another run: rows \w+ -> \w+; name another"):
        fine_tune(other, start, copy, *STEPS, "--resume")
    with pytest.raises(ValueError, match=r"is of another run: prompt_style brackets -> plain; name another"):
        fine_tune(data, start, copy, *STEPS, "--resume", "--prompt-style", "plain")
    monkeypatch.setattr(LiberoDataConfig, "image_crop", 0.5)
    with pytest.raises(ValueError, match=r"is of another run: pipeline \w+ -> \w+; name another"):
        fine_tune(data, start, copy, *STEPS, "--resume")


def test_a_run_begun_by_an_earlier_version_goes_on(data: Path, start: Path, tmp_path: Path) -> None:
    """Its state lay in the folder itself, without what is new in a plan, and with averages always."""
    run(data, start, tmp_path / "whole", "--steps", "2")
    old = tmp_path / "old"
    run(data, start, old, "--steps", "2", "--stop-after", "1")
    state = read_state(old / "checkpoint-1" / "training_state.pt", torch.device("cpu"))
    for name in ("accumulation", "lora", "data", "data_config", "start", "rows", "pipeline", "prompt_style"):
        del state["run"][name]
    state["average"] = state["parameters"]
    shutil.rmtree(old / "checkpoint-1")
    write_state(state, old)
    run(data, start, old, "--steps", "2")
    assert same(old / "checkpoint", tmp_path / "whole" / "checkpoint")


def test_a_checkpoint_of_the_same_step_is_replaced_whole(tmp_path: Path) -> None:
    for text in ("first", "second"):
        with new_checkpoint(tmp_path, 7) as folder:
            (folder / "file").write_text(text)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-7"]
    assert (tmp_path / "checkpoint-7" / "file").read_text() == "second"
