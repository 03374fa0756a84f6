"""scripts/train.py as a user runs it: data and checkpoint in, a checkpoint that serves out.

Oracles: the untrained checkpoint, the data's own statistics, and a run that was not interrupted.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from examples.Libero.custom_data_config import LiberoDataConfig
from gr00t.data.embodiment_tags import EmbodimentTag
from gr00t.data.schema import load_metadata
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.model.policy import Gr00tPolicy
from gr00t.testing.random_checkpoint import write_random_checkpoint
from gr00t.testing.synthetic import synthetic_observation
from tests.cli.training.training_runs import REPO, run, shown_actions, write_set


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("demonstrations") / "set")


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("start"), torch_dtype=torch.float32)


def program(data: Path, start: Path, output: Path, *options: str, processes: int = 1) -> tuple[int, str]:
    """The program as a person runs it: its status, and what it says."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else [])]
    command += ["scripts/train.py", "--data", str(data), "--checkpoint", str(start)]
    command += ["--output", str(output), "--batch-size", "2", "--device", "cpu", *options]
    done = subprocess.run(
        command,
        cwd=REPO,
        env={**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout if done.returncode == 0 else done.stderr


def test_a_trained_checkpoint_serves_and_a_stopped_run_goes_on(
    data: Path, start: Path, tmp_path: Path
) -> None:
    report = run(data, start, tmp_path, "--steps", "2", "--log-every", "1")
    assert (report["steps"], report["time_steps"]) == (2, 12)
    lines = [json.loads(line) for line in (tmp_path / "training.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert all(0.1 < line["loss"] < 10 for line in lines)

    # N1.5's fine-tuning leaves vision and language as they are.
    trained, before = GR00T_N1_5.from_pretrained(tmp_path / "checkpoint"), GR00T_N1_5.from_pretrained(start)
    moved = {
        name.split(".")[0]
        for name, value in before.state_dict().items()
        if not torch.equal(value.bfloat16(), trained.state_dict()[name].bfloat16())
    }
    assert moved == {"action_head", "adapter"}

    metadata = load_metadata(
        tmp_path / "checkpoint" / "experiment_cfg" / "metadata.json", EmbodimentTag.NEW_EMBODIMENT
    )
    assert metadata.statistics.action["x"].max.tolist() == [shown_actions()[:, 0].max()]
    config = LiberoDataConfig()
    policy = Gr00tPolicy(
        str(tmp_path / "checkpoint"),
        "new_embodiment",
        config.modality_config(),
        config.transform(),
        environ={},
    )
    answer = policy.get_action(
        synthetic_observation(config.modality_config(), metadata, "lift it", 0), seeds=0
    )
    assert answer["action.x"].shape == (16, 1)

    again = run(data, start, tmp_path, "--steps", "2")
    assert (again["steps"], again["loss"]) == (2, None)


def test_another_run_does_not_take_the_folder(data: Path, start: Path, tmp_path: Path) -> None:
    run(data, start, tmp_path, "--steps", "1")
    with pytest.raises(ValueError, match="is of another run: steps 1 -> 3; name another folder"):
        run(data, start, tmp_path, "--steps", "3")


def test_what_is_missing_is_one_line(start: Path, tmp_path: Path) -> None:
    status, said = program(tmp_path / "none", start, tmp_path / "out", "--steps", "1")
    assert (status, said.strip().splitlines()[-1]) == (1, f"error: {tmp_path / 'none'}: no such folder")


def test_a_run_that_stops_on_the_way_leaves_a_checkpoint_and_ends_like_any_other(
    data: Path, start: Path, tmp_path: Path
) -> None:
    options = ("--steps", "2")
    run(data, start, tmp_path / "whole", *options)
    report = run(data, start, tmp_path / "parts", *options, "--stop-after", "1")
    assert report["steps"] == 1
    halfway = GR00T_N1_5.from_pretrained(tmp_path / "parts" / "checkpoint").state_dict()
    assert run(data, start, tmp_path / "parts", *options)["steps"] == 2
    ends = [GR00T_N1_5.from_pretrained(tmp_path / name / "checkpoint") for name in ("whole", "parts")]
    whole, parts = (model.state_dict() for model in ends)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert any(not torch.equal(whole[name], halfway[name]) for name in whole)


@pytest.mark.slow
def test_two_processes_share_a_run_that_stops_and_goes_on(data: Path, start: Path, tmp_path: Path) -> None:
    options = ("--steps", "2", "--log-every", "1", "--precision", "float32")
    runs = {"whole": (), "parts": ("--stop-after", "1")}
    said = {
        name: program(data, start, tmp_path / name, *options, *more, processes=2)
        for name, more in runs.items()
    }
    assert [status for status, _ in said.values()] == [0, 0], said
    # This time the program starts its processes itself.
    assert program(data, start, tmp_path / "parts", *options, "--num-gpus", "2")[0] == 0
    run(data, start, tmp_path / "alone", *options)
    ends = {name: tmp_path / name for name in ("whole", "parts", "alone")}
    logs = {name: (end / "training.jsonl").read_text().splitlines() for name, end in ends.items()}
    assert {name: len(log) for name, log in logs.items()} == {"whole": 2, "parts": 2, "alone": 2}
    states = {name: GR00T_N1_5.from_pretrained(end / "checkpoint").state_dict() for name, end in ends.items()}
    assert all(torch.equal(states["whole"][name], states["parts"][name]) for name in states["whole"])
    # The second process has noises and times of its own.
    assert json.loads(logs["whole"][0])["loss"] != json.loads(logs["alone"][0])["loss"]


# Losses and norms of gradients before there was accumulation, LoRA or checkpoint-N: commit 5b7bd94, AMD EPYC.
BEFORE = {
    ("--steps", "4"): [
        (1.683887, 14.190042),
        (1.669217, 12.993123),
        (1.937969, 18.136906),
        (1.349256, 9.375949),
    ],
    ("--steps", "3", "--ema-decay", "0.9", "--draws", "2", "--seed", "3"): [
        (1.938928, 15.238658),
        (1.481184, 5.024929),
        (1.503856, 6.433996),
    ],
    (
        *("--steps", "3", "--parts", "vision", "language", "projector", "diffusion"),
        *("--learning-rate", "1e-3", "--weight-decay", "0.1", "--betas", "0.9", "0.99"),
    ): [(1.683887, 59.491104), (1.954406, 16.826473), (1.96451, 16.473173)],
}


@pytest.mark.parametrize("options", BEFORE, ids=["as usual", "averaged", "everything"])
def test_options_of_before_give_the_losses_of_before(
    options: tuple[str, ...], data: Path, start: Path, tmp_path: Path
) -> None:
    run(data, start, tmp_path, *options, "--log-every", "1")
    lines = [json.loads(line) for line in (tmp_path / "training.jsonl").read_text().splitlines()]
    found = [(line["loss"], line["gradient_norm"]) for line in lines]
    # Equal to the last digit on the machine of before; others add up in another order. There, by the kernels
    # for AVX2 and SSE4.1 (ONEDNN_MAX_CPU_ISA, ATEN_CPU_CAPABILITY), it is up to 4.2e-6.
    assert np.allclose(found, BEFORE[options], rtol=1e-4, atol=0), found
