"""LoRA from the command line to what serves. Oracles: the start, and the adapter merged by its reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from examples.Libero.custom_data_config import LiberoDataConfig
from gr00t.model.policy import Gr00tPolicy
from gr00t.testing.random_checkpoint import write_random_checkpoint
from gr00t.testing.synthetic import synthetic_observation
from tests.cli.training.training_runs import fine_tune, write_set


def actions(folder: Path, **base: Path) -> dict[str, np.ndarray]:
    config = LiberoDataConfig()
    modalities = config.modality_config()
    policy = Gr00tPolicy(
        *(str(folder), "new_embodiment", modalities, config.transform()),
        torch_dtype=torch.float32,
        environ={},
        **base,
    )
    shown = synthetic_observation(modalities, policy.metadata, "lift it", 0)
    return policy.get_action(shown, seeds=0)


@pytest.mark.parametrize(
    "more",
    [
        pytest.param((), marks=pytest.mark.slow),
        ("--tune-projector", "--lora-full-model"),
    ],
    ids=["as there", "and more"],
)
def test_the_merged_checkpoint_acts_as_its_adapter_on_the_base(tmp_path: Path, more: tuple[str, ...]) -> None:
    start = write_random_checkpoint(tmp_path / "start", torch_dtype=torch.float32)
    lora = ("--lora-rank", "4", "--lora-alpha", "64", "--learning-rate", "1e-2", "--save-adapter")
    words = ("--max-steps", "2", "--save-precision", "float32", *lora, *more)
    fine_tune(write_set(tmp_path / "set"), start, tmp_path / "run", *words)
    fine_tune(tmp_path / "set", start, tmp_path / "whole", "--max-steps", "1", "--learning-rate", "1e-12")
    merged = actions(tmp_path / "run")
    beside = actions(tmp_path / "run" / "checkpoint-2" / "adapter", base=start)
    assert all(np.array_equal(merged[key], beside[key]) for key in merged)
    # With the same statistics, nearly as it was at the start: measured 1.0 and 1.9 away from the trained one.
    before = actions(tmp_path / "whole")
    assert max(float(np.abs(merged[key] - before[key]).max()) for key in merged) > 0.3
