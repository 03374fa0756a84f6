"""Metadata and embodiments where they are not quite where, or as, they are looked for.

Oracle: where N1.5's training writes experiment_cfg, and the text of each refusal.
"""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from examples.Libero.custom_data_config import LiberoDataConfig
from gr00t.data.embodiment_tags import EmbodimentTag, tag_of
from gr00t.data.errors import MetadataError
from gr00t.data.schema import load_metadata
from gr00t.model.checkpoint.json_section import CheckpointError
from gr00t.model.checkpoint.source import METADATA, find_metadata
from gr00t.model.policy import Gr00tPolicy
from gr00t.testing.random_checkpoint import libero_metadata, write_random_checkpoint


def put(folder: Path, **entries: Any) -> Path:
    path = folder / METADATA
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(entries or {"new_embodiment": libero_metadata()}))
    return path


def checkpoint(run: Path, step: int) -> Path:
    folder = run / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


def test_a_checkpoint_without_metadata_takes_that_of_its_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = checkpoint(tmp_path / "run", 500)
    own = folder / METADATA
    assert find_metadata(folder) == own  # nothing anywhere: the error names where it belongs
    above = put(tmp_path / "run")
    with caplog.at_level(logging.INFO):
        assert find_metadata(folder) == above
    assert f"{folder} has no {METADATA}; that of its training is used: {above}" in caplog.text
    assert find_metadata(folder) != put(folder)
    assert find_metadata(folder) == own


def test_else_that_of_the_checkpoints_beside_it_if_they_agree(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = checkpoint(tmp_path / "run", 500)
    for step in (1000, 2000):
        put(checkpoint(tmp_path / "run", step))
    assert find_metadata(folder) == tmp_path / "run" / "checkpoint-2000" / METADATA
    put(tmp_path / "run" / "checkpoint-1000", gr1=libero_metadata())
    with pytest.raises(
        CheckpointError, match=r"has no .*metadata\.json, and the checkpoints beside it differ"
    ):
        find_metadata(folder)
    # Another checkpoint that happens to lie beside is not of the same training.
    other = tmp_path / "run" / "mine"
    other.mkdir()
    assert find_metadata(other) == other / METADATA
    put(tmp_path / "run")
    with caplog.at_level(logging.WARNING):
        assert find_metadata(other) == other / METADATA
    assert f"copy the one of the folder above: cp -r {tmp_path}/run/experiment_cfg {other}" in caplog.text


def test_what_lies_beside_an_adapter_or_elsewhere_in_a_training_is_not_its_metadata(tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    put(checkpoint(tmp_path, 500))
    put(checkpoint(tmp_path / "other_run", 500), gr1=libero_metadata())
    assert find_metadata(adapter) == adapter / METADATA
    assert find_metadata(checkpoint(tmp_path, 7)) == tmp_path / "checkpoint-500" / METADATA


def test_an_adapter_has_the_metadata_of_its_training_and_never_its_bases(tmp_path: Path) -> None:
    base = write_random_checkpoint(tmp_path / "base", torch_dtype=torch.float32)
    name = "base_model.model.action_head.model.proj_out_2"
    adapter = checkpoint(tmp_path / "run", 7) / "adapter"
    adapter.mkdir()
    tensors = {f"{name}.lora_A.weight": torch.ones(2, 128), f"{name}.lora_B.weight": torch.ones(128, 2)}
    save_file(tensors, adapter / "adapter_model.safetensors")
    (adapter / "adapter_config.json").write_text(json.dumps({"r": 2}))
    data = LiberoDataConfig()
    options = {"base": base, "device": "cpu", "environ": {}}
    with pytest.raises(
        MetadataError, match=r"adapter/experiment_cfg/metadata\.json: not found; .*: copy the fold"
    ):
        Gr00tPolicy(adapter, None, data.modality_config(), data.transform(), **options)
    above = put(adapter.parent)
    policy = Gr00tPolicy(adapter, None, data.modality_config(), data.transform(), **options)
    assert policy.read_from == (base, above)


def test_a_policy_of_a_checkpoint_of_a_training(tmp_path: Path) -> None:
    whole = write_random_checkpoint(tmp_path / "run" / "checkpoint-2", torch_dtype=torch.float32)
    shutil.move(whole / "experiment_cfg", tmp_path / "run" / "experiment_cfg")
    data = LiberoDataConfig()
    policy = Gr00tPolicy(whole, None, data.modality_config(), data.transform(), device="cpu", environ={})
    assert policy.embodiment_tag is EmbodimentTag.NEW_EMBODIMENT
    assert policy.read_from == (tmp_path / "run" / METADATA,)
    shutil.rmtree(tmp_path / "run" / "experiment_cfg")
    with pytest.raises(
        MetadataError, match=r"metadata\.json: not found; .*: copy the folder experiment_cfg of"
    ):
        Gr00tPolicy(whole, None, data.modality_config(), data.transform(), device="cpu", environ={})
    with pytest.raises(ValueError, match=r"needs a data config: which keys, prepared in which way"):
        Gr00tPolicy(whole, device="cpu", environ={})


@pytest.mark.parametrize("name", ["agibot", "AgiBot", "agibot-genie1", "AGIBOT_GENIE1"])
def test_another_spelling_of_a_tag_is_the_same_robot(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert EmbodimentTag(name) is EmbodimentTag.AGIBOT_GENIE1
    assert f"embodiment tag {name!r}: taken for 'agibot_genie1'" in caplog.text


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("fourier_gr1_arms_only", "the tag is gr1"),
        ("gr1_unified", "the tag is gr1"),
        ("oxe_droid_rel", "the tag is oxe_droid"),
        ("new_embodimant", "did you mean new_embodiment"),
        ("spot", "known: agibot_genie1, gr1, new_embodiment, oxe_droid"),
    ],
)
def test_a_tag_that_is_none_says_which_one_to_use(name: str, hint: str) -> None:
    assert tag_of(name) is None
    with pytest.raises(ValueError, match=f"unknown embodiment tag {name!r}; {hint}"):
        EmbodimentTag(name)


def _entry(tag: str) -> dict[str, Any]:
    return {**libero_metadata(), "embodiment_tag": tag}


@pytest.mark.parametrize(
    ("key", "inside"), [("agibot", "agibot_genie1"), ("agibot", "agibot"), ("my_arm", "agibot_genie1")]
)
def test_metadata_of_the_same_robot_under_another_key(
    tmp_path: Path, key: str, inside: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = put(tmp_path, **{key: _entry(inside), "gr1": _entry("gr1")})
    with caplog.at_level(logging.INFO):
        metadata = load_metadata(path, EmbodimentTag.AGIBOT_GENIE1)
    assert metadata.embodiment_tag is EmbodimentTag.AGIBOT_GENIE1
    assert f"{path}: the entry {key!r} is that of embodiment tag 'agibot_genie1'" in caplog.text


def test_metadata_of_one_other_robot_says_which_tag_to_use(tmp_path: Path) -> None:
    path = put(tmp_path, gr1=_entry("gr1"))
    with pytest.raises(MetadataError) as error:
        load_metadata(path, EmbodimentTag.NEW_EMBODIMENT)
    assert str(error.value) == (
        f"{path}: no metadata for embodiment tag 'new_embodiment'; this checkpoint has: gr1; use "
        "--embodiment-tag gr1"
    )
    twice = put(tmp_path, agibot=_entry("agibot_genie1"), arm=_entry("agibot_genie1"))
    with pytest.raises(
        MetadataError, match=r"for embodiment tag 'agibot_genie1'; this checkpoint has: agibot, arm"
    ):
        load_metadata(twice, EmbodimentTag.AGIBOT_GENIE1)
