"""Trainings in this process, as scripts/train.py and scripts/gr00t_finetune.py would do them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from gr00t.cli.errors import UsageError
from gr00t.cli.training.arguments import FinetuneArguments, TrainArguments
from gr00t.cli.training.command import train_as_asked
from gr00t.cli.training.command_line import canonical, parse
from gr00t.cli.training.data import data_settings, load_data
from gr00t.cli.training.plans import plan_of, remarks
from gr00t.cli.training.processes import processes_of
from gr00t.cli.training.program import dry_run, train
from gr00t.data.lerobot.writer import Demonstration, LeRobotWriter
from gr00t.training import resources
from gr00t.training.identity import data_identity
from tests.shell import REPO

__all__ = [
    "REPO",
    "FinetuneArguments",
    "TrainArguments",
    "UsageError",
    "canonical",
    "data_identity",
    "data_settings",
    "dry_run",
    "fine_tune",
    "load_data",
    "parse",
    "plan_of",
    "processes_of",
    "remarks",
    "resources",
    "run",
    "shown_actions",
    "train_as_asked",
    "write_set",
]

LIBERO = "examples.Libero.custom_data_config:LiberoDataConfig"


def write_set(folder: Path, episodes: range = range(2), steps: int = 6) -> Path:
    """Write a data set for LIBERO's configuration: grey frames, random states and actions."""
    writer = LeRobotWriter(folder, json.loads((REPO / "examples/Libero/modality.json").read_text()), 20)
    for episode in episodes:
        state, action = _numbers(episode, steps)
        frames = np.full((steps, 64, 64, 3), (60 * episode + 40) % 256, np.uint8)
        writer.add(
            Demonstration(
                task=f"lift object {episode}",
                state=state,
                action=action,
                frames={"image": frames, "wrist_image": frames},
                extra={},
            )
        )
    return folder


def shown_actions(episodes: range = range(2), steps: int = 6) -> np.ndarray:
    """All actions of such a set, one after the other."""
    return np.concatenate([_numbers(episode, steps)[1] for episode in episodes])


def _numbers(episode: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(episode)
    state = rng.uniform(-0.5, 0.5, (steps, 8)).astype(np.float32)
    return state, rng.uniform(-1, 1, (steps, 7)).astype(np.float32)


def run(data: Path, start: Path, output: Path, *words: str) -> dict[str, Any]:
    """A training by scripts/train.py: two samples a step in float32, unless `words` say otherwise."""
    usual = ["--data", data, "--checkpoint", start, "--output", output, "--device", "cpu"]
    if "--batch-size" not in words:
        usual += ["--batch-size", "2"]
    if "--precision" not in words:
        usual += ["--precision", "float32"]
    return _train(TrainArguments, [*map(str, usual), *words])


def fine_tune(data: Path, start: Path, output: Path, *words: str) -> dict[str, Any]:
    """The same by scripts/gr00t_finetune.py and NVIDIA's names."""
    usual = ["--dataset-path", data, "--base-model-path", start, "--output-dir", output]
    usual += ["--batch-size", "2", "--data-config", LIBERO, "--device", "cpu", "--precision", "float32"]
    return _train(FinetuneArguments, [*map(str, usual), *words])


def _train(kind: type[TrainArguments], words: list[str]) -> dict[str, Any]:
    arguments = parse(kind, None, words)
    assert arguments.output is not None
    arguments.output.mkdir(parents=True, exist_ok=True)
    return train(arguments)
