"""train_grounding.py from scenes to a checkpoint. Oracle: the checkpoint that it started from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from examples.Libero.demo_policy.training.train_grounding import GroundingOptions, train
from gr00t.files.atomic import unfinished
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.testing.random_checkpoint import write_random_checkpoint
from tests.examples.Libero.demo_policy.training.invented_scenes import write_scenes


@pytest.fixture
def options(tmp_path: Path) -> GroundingOptions:
    scenes = write_scenes(tmp_path / "scenes", 12, 32, ["milk", "butter", "basket"])
    start = write_random_checkpoint(tmp_path / "start", torch_dtype=torch.float32)
    return GroundingOptions(
        str(start), scenes, tmp_path / "out", vision_steps=2, steps=2, batch_size=4, held_out=4
    )


def test_it_ends_with_a_checkpoint_of_the_same_kind(options: GroundingOptions) -> None:
    found = train(options)
    assert set(found) == {"loss", "seen", "meant"}
    before, after = (
        GR00T_N1_5.from_pretrained(folder).state_dict() for folder in (options.checkpoint, options.output)
    )
    assert before.keys() == after.keys()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"backbone", "adapter"}
    assert (options.output / "tokenizer.json").read_bytes() == (
        Path(options.checkpoint) / "tokenizer.json"
    ).read_bytes()
    assert not unfinished(options.output.parent)
    with pytest.raises(ValueError, match="out is there already"):
        train(options)


def test_the_same_seed_gives_the_same_weights(options: GroundingOptions) -> None:
    train(options)
    first = GR00T_N1_5.from_pretrained(options.output).state_dict()
    options.output.rename(options.output.with_name("first"))
    train(options)
    second = GR00T_N1_5.from_pretrained(options.output).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_something_has_to_be_left_to_train_on(options: GroundingOptions) -> None:
    with pytest.raises(ValueError, match="--held-out 12: expected 1 to 11"):
        train(GroundingOptions(options.checkpoint, options.scenes, options.output, held_out=12))
