"""Flags of both programs. Oracles: NVIDIA's list of flags with their defaults, and what each is to mean."""

from __future__ import annotations

import dataclasses
import json
import logging
import struct
import sys
from pathlib import Path

import pytest
import torch

from gr00t.testing.random_checkpoint import write_random_checkpoint
from gr00t.training.lora import LoraPlan
from tests.cli.training.training_runs import (
    LIBERO,
    FinetuneArguments,
    TrainArguments,
    UsageError,
    canonical,
    fine_tune,
    parse,
    plan_of,
    processes_of,
    remarks,
    run,
    train_as_asked,
    write_set,
)

# Isaac-GR00T N1.5's flags with their defaults, as its users type them, and ours of the same meaning.
NVIDIA = {
    "dataset-path": ("data", ()),
    "output-dir": ("output", Path("/tmp/gr00t")),
    "data-config": ("data_config", "fourier_gr1_arms_only"),
    "batch-size": ("batch_size", 32),
    "max-steps": ("steps", 10000),
    "num-gpus": ("num_gpus", 1),
    "save-steps": ("save_every", 1000),
    "base-model-path": ("checkpoint", "nvidia/GR00T-N1.5-3B"),
    "resume": ("resume", False),
    "learning-rate": ("learning_rate", 1e-4),
    "weight-decay": ("weight_decay", 1e-5),
    "warmup-ratio": ("warmup", 0.05),
    "lora-rank": ("lora_rank", 0),
    "lora-alpha": ("lora_alpha", 16),
    "lora-dropout": ("lora_dropout", 0.1),
    "gradient-accumulation-steps": ("gradient_accumulation_steps", 1),
    "embodiment-tag": ("embodiment_tag", "new_embodiment"),
}
VALUES = {
    type(Path()): "folder",
    tuple: "folder",
    int: "3",
    float: "0.5",
    str: "gr1",
    bool: "True",
}


def arguments(*words: str, kind: type[TrainArguments] = FinetuneArguments) -> TrainArguments:
    return parse(kind, None, list(words))


@pytest.mark.parametrize("flag", NVIDIA)
@pytest.mark.parametrize("form", ["--{} {}", "--{}={}", "_"])
def test_nvidias_flags_mean_ours_and_have_nvidias_defaults(flag: str, form: str) -> None:
    field, default = NVIDIA[flag]
    assert getattr(FinetuneArguments(), field) == default
    value = VALUES[type(default)]
    text = f"--{flag.replace('-', '_')} {value}" if form == "_" else form.format(flag, value)
    changed = arguments(*text.split())
    expected = type(default)([Path(value)] if isinstance(default, tuple) else value)
    assert changed == dataclasses.replace(FinetuneArguments(), **{field: expected})


def test_the_usual_program_keeps_its_defaults() -> None:
    usual = TrainArguments()
    assert (usual.save_every, usual.log_every, usual.batch_size, usual.seed) == (500, 20, 32, 0)
    assert usual.data_config == LIBERO
    assert (usual.resume, usual.output, usual.published) == (None, None, "checkpoint")
    plan = plan_of(dataclasses.replace(usual, steps=5), 2)
    assert (plan.batch_size, plan.betas, plan.ema_decay) == (32, (0.95, 0.999), 0)
    assert plan.parts == ("projector", "diffusion")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("", ("projector", "diffusion")),
        ("--tune-llm --tune_visual", ("vision", "language", "projector", "diffusion")),
        ("--no-tune_diffusion_model", ("projector",)),
        ("--tune-projector False --tune-llm True", ("language", "diffusion")),
        ("--no-tune-projector --no-tune-diffusion-model", ()),
        ("--parts vision projector --tune-visual --no-tune-llm", ("vision", "projector")),
        ("--lora-rank 4", ()),
        ("--lora-rank 4 --tune-diffusion-model", ()),
        ("--lora-rank 4 --tune-projector", ("projector",)),
    ],
)
def test_switches_choose_what_is_trained(words: str, parts: tuple[str, ...]) -> None:
    assert plan_of(arguments(*words.split()), 1).parts == parts


def test_every_process_has_a_batch_as_nvidias_has_and_here_they_share_it() -> None:
    words = ("--batch-size", "8", "--gradient-accumulation-steps", "4", "--max-steps", "5")
    of_nvidia, usual = plan_of(arguments(*words), 2), plan_of(arguments(*words, kind=TrainArguments), 2)
    assert (of_nvidia.batch_size, of_nvidia.accumulation) == (16, 4)
    assert (usual.batch_size, usual.accumulation) == (8, 4)
    assert "8 samples at once on each of 2 processes, 4 times: each step learns from 64" in remarks(
        arguments(*words), 2
    )


def test_lora_is_planned_as_it_is_asked_for() -> None:
    words = "--lora_rank 64 --lora_alpha 128 --lora_dropout 0 --lora_full_model"
    assert plan_of(arguments(*words.split()), 1).lora == LoraPlan(64, 128, 0.0, backbone=True)


def test_data_sets_may_be_named_at_once_or_one_by_one() -> None:
    for words in (
        "--dataset-path a b c",
        "--data a --dataset-path b c",
        "--dataset_path=a --data=b --data c",
    ):
        assert arguments(*words.split()).data == (Path("a"), Path("b"), Path("c")), words
    weighted = arguments(*["--data", "a", "b", "--data-weights", "1", "0.5"])
    assert weighted.data_weights == (1.0, 0.5)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--steps 5 --max-steps 6", "--steps 5 and --max-steps 6: one thing in two ways"),
        ("--max_steps 6 --max-steps=5", "--max_steps 6 and --max-steps 5: one thing in two ways"),
        ("--tune-llm --no-tune-llm", "--tune-llm and --no-tune-llm: one thing in two ways"),
        ("--output a --output-dir b", "--output a and --output-dir b: one thing in two ways"),
    ],
)
def test_one_thing_said_in_two_ways_is_refused(words: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        arguments(*words.split())


def test_the_home_folder_is_meant_behind_an_equals_sign_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/hers")
    said = arguments("--data=~/set", "--output-dir", "~/run", "--base-model-path=~", "--tokenizer=a~/b")
    assert (said.data, said.output) == ((Path("/hers/set"),), Path("/hers/run"))
    assert (said.checkpoint, said.tokenizer) == ("/hers", "a~/b")


def test_one_thing_said_twice_alike_is_taken() -> None:
    assert (
        arguments(
            *["--learning-rate", "1e-4", "--learning_rate", "0.0001", "--steps", "7", "--max-steps", "7"]
        ).steps
        == 7
    )
    assert canonical(FinetuneArguments, ["-h"]) == ["-h"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--batch-size 0", "--batch-size: expected at least 1, got 0"),
        ("--max-steps -3", "--steps or --max-steps: expected at least 1, got -3"),
        ("--save-steps 0", "--save-every or --save-steps: expected at least 1, got 0"),
        ("--lora-rank -1", "--lora-rank: expected at least 0, got -1"),
        ("--learning-rate nan", "--learning-rate: expected a positive number, got nan"),
        ("--weight-decay -1", "--weight-decay: expected a number >= 0, got -1.0"),
        ("--warmup-ratio 1.5", r"--warmup: expected a number in \[0, 1\), got 1.5"),
        ("--lora-rank 4 --lora-dropout 1", r"--lora-dropout: expected a number in \[0, 1\), got 1.0"),
        ("--betas 0.9 1.0", r"--betas: expected numbers in \[0, 1\), got \(0.9, 1.0\)"),
        ("--parts vison", "--parts: 'vison': did you mean vision"),
        ("--parts projector --tune-llm", "--parts projector and --tune-llm: one thing in two ways"),
        ("--parts projector --no-tune-projector", "--parts projector and --no-tune-projector: one thing in"),
        ("--save-adapter", "--save-adapter: there is none without LoRA; expected --lora-rank N as well"),
        ("--stop-after 5 --max-steps 4", "--stop-after 5: expected at most --steps 4"),
    ],
)
def test_what_makes_no_sense_is_one_line(words: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        plan_of(arguments(*words.split()), 1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--dataloader-num-workers 12", "--dataloader-num-workers 12: without effect; one thread reads"),
        ("--dataloader_prefetch_factor 4", "--dataloader-prefetch-factor 4: without effect; one thread"),
        ("--no-balance-dataset-weights", "--balance-dataset-weights: without effect; there is one data set"),
        (
            "--balance-trajectory-weights",
            "--balance-trajectory-weights: without effect; there is one data set",
        ),
        ("--data-weights 2", "--data-weights: without effect; there is one data set"),
        ("--lora-full-model", "--lora-full-model: without effect; without --lora-rank there is no LoRA"),
        ("--lora-rank 8", "LoRA of rank 8 beside queries, keys and values of the adapter and the DiT"),
        ("--lora-rank 8", "LoRA leaves the robot's encoders and decoder as they are"),
        ("--lora-rank 8 --tune-llm", "--tune-llm True: without effect beside --lora-rank"),
    ],
)
def test_what_has_no_effect_is_said(words: str, said: str) -> None:
    told = list(remarks(arguments("--dataset-path", "a", *words.split()), 1))
    assert [line for line in told if said in line], told


def test_flags_that_are_not_given_are_not_remarked_on() -> None:
    assert list(remarks(arguments("--dataset-path", "a"), 1)) == [
        "--report-to is not given: Isaac-GR00T would report to wandb; here figures go to training.jsonl"
    ]
    assert list(remarks(arguments("--data", "a", kind=TrainArguments), 1)) == []


@pytest.mark.parametrize("tracker", ["wandb", "azure_ml"])
def test_trackers_that_are_not_built_in_are_named_with_what_to_use(tracker: str) -> None:
    with pytest.raises(
        UsageError, match=f"--report-to {tracker}: not built in; expected tensorboard or none"
    ):
        list(remarks(arguments("--report-to", tracker), 1))


def test_more_gpus_than_there_are_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert processes_of(arguments("--num-gpus", "2")) == 2
    assert processes_of(arguments("--num-gpus", "8", "--device", "cpu")) == 8
    assert processes_of(arguments(kind=TrainArguments)) == 1
    with pytest.raises(
        UsageError, match="--num-gpus 8: this machine has 2; expected at most 2, or --device cpu"
    ):
        processes_of(arguments("--num-gpus", "8"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--max-step", "5"], "Perhaps you meant:.*--max-steps"),
        (["--report-to", "comet"], "invalid choice 'comet' for argument '--report-to'"),
        (["--batch-size", "many"], "Error parsing --batch-size"),
    ],
)
def test_misspelt_flags_are_answered_by_the_right_ones(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    with pytest.raises(SystemExit):
        arguments(*words)
    assert re.search(said, capsys.readouterr().err, re.DOTALL)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("demonstrations") / "set")


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("start"), torch_dtype=torch.float32)


def test_several_sets_are_weighted_and_their_weights_belong_to_the_run(
    data: Path, start: Path, tmp_path: Path
) -> None:
    other = write_set(tmp_path / "other", range(2, 3), 4)
    said = run(
        data, start, tmp_path / "out", "--data", str(other), "--data-weights", "1", "0.5", "--steps", "1"
    )
    assert said["time_steps"] == 16
    with pytest.raises(
        ValueError, match=r"is of another run: data \w+ -> \w+, data_weights \[1.0, 0.5\] -> \[1.0, 3.0\]"
    ):
        run(data, start, tmp_path / "out", "--data", str(other), "--data-weights", "1", "3", "--steps", "1")
    with pytest.raises(ValueError, match="--data-weights: 1 weights, 2 data sets; expected one for each"):
        run(data, start, tmp_path / "new", "--data", str(other), "--data-weights", "1", "--steps", "1")
    with pytest.raises(ValueError, match="--data-weights: weight nan: expected a number above 0"):
        run(data, start, tmp_path / "new", "--data", str(other), "--data-weights", "1", "nan", "--steps", "1")
    assert not any((tmp_path / "new").iterdir())  # nothing was decoded
    with pytest.raises(ValueError, match=f"--data: {data} is named twice"):
        run(data, start, tmp_path / "new", "--data", str(data), "--steps", "1")


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What event files hold, read by TensorFlow's records: length, checksum, message, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
            content = content[16 + length :]
    return found


def test_tensorboard_gets_the_figures_of_the_log(data: Path, start: Path, tmp_path: Path) -> None:
    fine_tune(data, start, tmp_path, "--max-steps", "2", "--logging-steps", "1", "--report-to", "tensorboard")
    lines = [json.loads(line) for line in (tmp_path / "training.jsonl").read_text().splitlines()]
    told = scalars(tmp_path / "runs")
    assert [step for step, _ in told["train/loss"]] == [1, 2]
    for name, tag in (("loss", "loss"), ("gradient_norm", "grad_norm"), ("learning_rate", "learning_rate")):
        found = [value for _, value in told[f"train/{tag}"]]
        assert found == pytest.approx([line[name] for line in lines], rel=1e-4, abs=1e-6)
    assert lines[0]["remaining"] > lines[1]["remaining"] == 0
    assert lines[1]["memory_gib"] > 0.1


def test_without_the_package_one_line_says_what_to_install(
    data: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        UsageError, match=r"needs the package tensorboardX, which is not .* scripts/setup_env.sh train"
    ):
        run(data, start, tmp_path, "--steps", "1", "--report-to", "tensorboard")


def test_what_is_missing_is_said_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:

    monkeypatch.setattr(sys, "argv", ["gr00t_finetune.py", "--output-dir", str(tmp_path / "out")])
    assert train_as_asked(FinetuneArguments, None) == 2
    said = "error: expected --data (or --dataset-path): folders of demonstrations\n"
    assert capsys.readouterr().err.endswith(said)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    assert train_as_asked(TrainArguments, None) == 2
    assert capsys.readouterr().err.endswith(
        "error: expected --data (or --dataset-path): folders of demonstrations; --checkpoint (or "
        "--base-model-path): what to start from; --output (or --output-dir): a folder for the results\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_the_need_for_memory_is_said_at_every_start(
    data: Path, start: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="gr00t"):
        run(data, start, tmp_path, "--steps", "1")
    assert "memory: about " in caplog.text
    assert "memory: at most " in caplog.text


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: 9 bytes"
        ),
    ],
)
def test_a_shortage_of_memory_is_one_error_with_what_helps(
    error: RuntimeError,
    data: Path,
    start: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise error

    from gr00t.training.trainer import Trainer

    monkeypatch.setattr(Trainer, "_learn", fail)
    words = ["--data", data, "--checkpoint", start, "--output", tmp_path / "out", "--steps", "1"]
    monkeypatch.setattr(sys, "argv", ["train.py", *map(str, words), "--batch-size", "2", "--device", "cpu"])
    assert train_as_asked(TrainArguments, None) == 1
    said = capsys.readouterr().err
    assert f"error: out of memory: {error}" in said
    assert "less is needed with a smaller --batch-size" in said
