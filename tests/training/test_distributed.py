"""Oracles: means by hand, and the batch that one process alone would learn from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.testing.random_checkpoint import write_random_checkpoint
from gr00t.training.distributed import ProcessGroup
from gr00t.training.plan import TrainingPlan
from gr00t.training.trainer import Trainer, TrainingError
from tests.shell import REPO
from tests.training.samples import InventedSamples, bound_transform


def test_two_processes_end_with_the_means_of_their_gradients(tmp_path: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    run = subprocess.run(
        [*launcher, str(Path(__file__).with_name("distributed_process.py")), str(tmp_path)],
        cwd=REPO,
        env={**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    for rank in range(2):
        told = json.loads((tmp_path / f"{rank}.json").read_text())
        assert told == {
            "figures": {"loss": 2.5, "rate": 0.5},
            "first": [[0.0, 1.5, 3.0], [4.5, 6.0, 7.5]],
            "second": [-0.5, 4.0],
            "unused": False,
        }


def test_alone_nothing_is_averaged() -> None:
    value = torch.nn.Parameter(torch.zeros(1))
    value.grad = torch.ones(1)
    assert ProcessGroup().average([value], {"loss": 3.0}) == {"loss": 3.0}
    assert value.grad.tolist() == [1.0]


def test_every_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for asked in (None, "cuda"):
        assert [ProcessGroup(rank, 2).device(asked) for rank in range(2)] == [
            torch.device("cuda:0"),
            torch.device("cuda:1"),
        ]
    assert ProcessGroup(1, 2).device("cpu") == torch.device("cpu")
    assert ProcessGroup().device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ValueError, match="--device cuda:0: 2 processes: expected cuda, a GPU each, or cpu"):
        ProcessGroup(1, 2).device("cuda:0")
    with pytest.raises(ValueError, match="3 processes, 2 GPUs: expected one each"):
        ProcessGroup(0, 3).device(None)


@pytest.mark.parametrize("asked", ["cdua", "mps", "cuda:0:1"])
def test_devices_that_do_not_exist_are_named(asked: str) -> None:
    with pytest.raises(ValueError, match=f"--device {asked}: expected cpu, cuda or cuda:N"):
        ProcessGroup().device(asked)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match=r"--device cuda:2: torch .* finds 2 GPUs here"):
        ProcessGroup().device("cuda:2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"--device cuda: torch .* finds 0 GPUs here"):
        ProcessGroup().device("cuda")


def test_a_batch_is_dealt_out_whole(tmp_path: Path) -> None:
    checkpoint = write_random_checkpoint(tmp_path, torch_dtype=torch.float32)
    samples = InventedSamples(checkpoint, 50)
    model = GR00T_N1_5.from_pretrained(checkpoint)
    plan = TrainingPlan(steps=1, batch_size=6, precision="float32")

    def actions_of(group: ProcessGroup) -> np.ndarray:
        transform = bound_transform(checkpoint, samples.metadata)
        return (
            Trainer(model, samples, transform, plan, torch.device("cpu"), group=group)
            .prepare(0)
            .values["action"]
            .numpy()
        )

    whole, shares = actions_of(ProcessGroup()), [actions_of(ProcessGroup(rank, 3)) for rank in range(3)]
    assert [len(share) for share in shares] == [2, 2, 2]
    assert np.array_equal(np.concatenate(shares), whole)
    assert len(np.unique(whole.reshape(6, -1), axis=0)) > 3
    with pytest.raises(
        ValueError, match="batch_size: 6 cannot be shared by 4 processes: expected a multiple"
    ):
        actions_of(ProcessGroup(0, 4))


def test_a_run_goes_on_with_as_many_processes_as_it_began_with(tmp_path: Path) -> None:
    checkpoint = write_random_checkpoint(tmp_path / "checkpoint", torch_dtype=torch.float32)
    samples = InventedSamples(checkpoint, 3)
    model = GR00T_N1_5.from_pretrained(checkpoint)
    plan = TrainingPlan(steps=1, batch_size=2, precision="float32")
    transform = bound_transform(checkpoint, samples.metadata)
    alone, pair = (
        Trainer(model, samples, transform, plan, torch.device("cpu"), group=ProcessGroup(0, size))
        for size in (1, 2)
    )
    alone.save(tmp_path)
    assert alone.resume(tmp_path)
    with pytest.raises(TrainingError, match=r"is of another run: processes 1 -> 2; name another folder"):
        pair.resume(tmp_path)
