"""What a run needs. Oracles: what PyTorch's profiler sees allocated, and the size of what was written."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

import pytest
import torch

from gr00t.model.checkpoint.config import Gr00tConfig
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.testing.random_checkpoint import small_config, write_random_checkpoint
from gr00t.training.lora import LoraPlan
from gr00t.training.memory_estimate import MemoryEstimate, estimate_memory
from gr00t.training.plan import TrainingPlan
from gr00t.training.trainer import Trainer
from tests.cli.training.training_runs import FinetuneArguments, dry_run, parse, resources, run, write_set
from tests.training.samples import InventedSamples, bound_transform

GIB = 2**30
CPU = torch.device("cpu")
EVERYTHING = ("vision", "language", "projector", "diffusion")


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("start"), torch_dtype=torch.float32)


def step_of(start: Path, plan: TrainingPlan) -> tuple[int, int, int]:
    """Bytes that a step allocates at most, those of its inputs, and what was estimated of both."""
    samples, model = InventedSamples(start, 8), GR00T_N1_5.from_pretrained(start)
    trainer = Trainer(model, samples, bound_transform(start, samples.metadata), plan, CPU)
    batch = trainer.prepare(0)
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        trainer._backward(batch)
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    inputs = sum(value.nbytes for value in batch.values.values() if isinstance(value, torch.Tensor))
    tokens = batch.values["eagle_input_ids"].shape[1] - 2 * model.config.tokens_per_image
    found = estimate_memory(Gr00tConfig.from_folder(start), plan, 2, text_tokens=tokens)
    return most, inputs // plan.accumulation, found.peak - found.weights - found.optimizer


@pytest.mark.parametrize(
    "plan",
    [
        TrainingPlan(1, batch_size=2),
        pytest.param(
            TrainingPlan(1, batch_size=4, accumulation=2, draws=2, precision="float32"),
            marks=pytest.mark.slow,
        ),
        pytest.param(TrainingPlan(1, batch_size=4, parts=EVERYTHING), marks=pytest.mark.slow),
        pytest.param(
            TrainingPlan(1, batch_size=4, parts=(), lora=LoraPlan(4, backbone=True)), marks=pytest.mark.slow
        ),
    ],
    ids=["usual", "accumulated", "everything", "lora"],
)
def test_a_step_allocates_what_was_estimated(start: Path, plan: TrainingPlan) -> None:
    measured, inputs, estimated = step_of(start, plan)
    # Inputs come to a GPU and leave it after the forward; here they are there before. Measured: 1.04, 1.05,
    # 0.87 and 1.32 times `measured`. "everything" has a workspace of 15 MB inside the convolution of the
    # small network's 56-pixel patches, which nobody sees from outside; of "lora" the inputs are most.
    assert 0.85 * measured < estimated < 1.06 * (measured + inputs)


def test_the_full_size_is_estimated_from_its_architecture_in_seconds() -> None:
    begun = time.process_time()
    found = estimate_memory(Gr00tConfig.full_size(), TrainingPlan(1), 1)
    assert time.process_time() - begun < 30  # measured on an AMD EPYC: 4.0
    with torch.device("meta"):
        numbers = sum(value.numel() for value in GR00T_N1_5(Gr00tConfig.full_size()).parameters())
    assert (found.parameters, found.weights) == (numbers, 4 * numbers)
    assert found.optimizer == 2 * found.gradients == 8 * found.trained
    assert found.checkpoint == 2 * numbers + 12 * found.trained
    # NVIDIA's README: 24 GB do not suffice for the DiT, and do without it.
    without = estimate_memory(
        Gr00tConfig.full_size(), TrainingPlan(1, batch_size=32, parts=("projector",)), 1
    )
    assert without.peak < 24e9 < found.peak


@pytest.mark.slow
def test_each_further_sample_costs_as_much_as_the_one_before(start: Path) -> None:
    config = Gr00tConfig.from_folder(start)
    one, some, many = (estimate_memory(config, TrainingPlan(1, batch_size=size), 2) for size in (1, 16, 32))
    assert many.activations == pytest.approx(some.activations + 16 * many.per_sample, rel=0.02)
    assert one.per_sample == one.activations


def test_processes_and_averages_count(start: Path) -> None:
    config = Gr00tConfig.from_folder(start)
    alone, pair = (
        estimate_memory(config, TrainingPlan(1, batch_size=4), 2, processes=size) for size in (1, 2)
    )
    assert pair.gradients == 2 * alone.gradients
    assert pair.activations < alone.activations
    averaged = estimate_memory(config, TrainingPlan(1, batch_size=4, ema_decay=0.9), 2)
    assert averaged.peak - alone.peak == averaged.average == alone.gradients


def test_a_checkpoint_on_disk_is_as_large_as_was_said(start: Path, tmp_path: Path) -> None:
    run(write_set(tmp_path / "set"), start, tmp_path / "out", "--steps", "1")
    files = [path for path in (tmp_path / "out" / "checkpoint-1").rglob("*") if path.is_file()]
    found = estimate_memory(Gr00tConfig.from_folder(start), TrainingPlan(1, batch_size=2), 2)
    # Names, the tokenizer and the metadata are left out of the estimate.
    assert 0 < sum(path.stat().st_size for path in files) - found.checkpoint < 500_000


def test_a_dry_run_reads_neither_weights_nor_data(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, content in small_config().to_json_files().items():
        (tmp_path / name).write_text(json.dumps(content))
    words = [
        "--base-model-path",
        str(tmp_path),
        "--output-dir",
        str(tmp_path / "out"),
        "--data-config",
        "so100",
    ]
    with caplog.at_level(logging.INFO, logger="gr00t"):
        found = dry_run(parse(FinetuneArguments, None, [*words, "--dry-run"]), 1)
    assert found["dry_run"]
    assert found["peak"] > found["weights"] > 20_000_000
    assert "memory: about " in caplog.text
    assert "for each checkpoint" in caplog.text
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "eagle_config.json"}


def test_a_machine_with_less_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = (9, 4, 8, 0, 8, 1, 26, 9, 16)
    need = MemoryEstimate(1, 1, *(GIB * size for size in sizes))
    disk = type("Usage", (), {"free": 50 * GIB})
    monkeypatch.setattr(resources, "_free", lambda device: 24 * GIB)
    monkeypatch.setattr(resources.shutil, "disk_usage", lambda path: disk)
    told = list(resources.shortages(need, CPU, 2, tmp_path / "none", 5))
    assert told == [
        "52.0 GiB are needed on cpu, 24.0 GiB are free: the run may not fit; less is needed with a smaller "
        "--batch-size (and --gradient-accumulation-steps), --no-tune-diffusion-model or --lora-rank",
        f"checkpoints need 96.0 GiB of disk (6 of 16.0 GiB), {tmp_path} has 50.0 GiB; "
        "--save-total-limit keeps fewer",
    ]
    monkeypatch.setattr(resources, "_free", lambda device: 99 * GIB)
    assert list(resources.shortages(need, CPU, 1, tmp_path, 2)) == []
