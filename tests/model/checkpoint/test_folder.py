"""Checkpoint folders, read and written.

Oracles: the bytes of the tensors themselves, the kernel's list of mapped files, the reference's file layout.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gr00t.model.checkpoint.config import Gr00tConfig
from gr00t.model.checkpoint.folder import save_checkpoint
from gr00t.model.checkpoint.names import N1_5_NAMES
from gr00t.model.gr00t_n1 import GR00T_N1_5
from tests.model.parity_set import PARITY, rewrite


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_saved_loads_again_bit_for_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    model = GR00T_N1_5.from_pretrained(PARITY / "tiny_e2e", torch_dtype=dtype)
    model.save_pretrained(tmp_path)
    again = GR00T_N1_5.from_pretrained(tmp_path, torch_dtype=dtype)
    before, after = model.state_dict(), again.state_dict()
    assert before.keys() == after.keys()
    assert all(before[name].dtype == after[name].dtype == dtype for name in before)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert again.config == model.config


def test_the_files_written_are_nvidias(tmp_path: Path, model: GR00T_N1_5, tiny_a: Path) -> None:
    save_checkpoint(model, model.config, tmp_path, shard_bytes=1_000_000)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    shards = sorted(set(index["weight_map"].values()))
    count = len(shards)
    assert count == 5
    assert shards == [f"model-{i:05d}-of-{count:05d}.safetensors" for i in range(1, count + 1)]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [*shards, "config.json", "eagle_config.json", "model.safetensors.index.json"]
    )
    original = {
        name: t
        for name, t in load_file(tiny_a / "model.safetensors").items()
        if not N1_5_NAMES.is_unused(name)
    }
    written = {name: t for shard in shards for name, t in load_file(tmp_path / shard).items()}
    assert index["weight_map"].keys() == written.keys() == original.keys()
    assert all(torch.equal(written[name], original[name]) for name in original)
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in original.values())
    assert all(sum(t.nbytes for t in load_file(tmp_path / shard).values()) <= 1_000_000 for shard in shards)


def test_saving_over_the_files_the_model_is_mapped_from(folder: Path) -> None:
    first = GR00T_N1_5.from_pretrained(folder)
    first.save_pretrained(folder)
    assert not (folder / "model.safetensors").exists()  # the older weights; some programs would read those
    second = GR00T_N1_5.from_pretrained(folder)
    second.save_pretrained(folder)
    third = GR00T_N1_5.from_pretrained(folder).state_dict()
    assert all(torch.equal(tensor, third[name]) for name, tensor in first.state_dict().items())


def test_a_save_that_fails_leaves_the_old_files_whole(
    folder: Path, model: GR00T_N1_5, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.save_pretrained(folder)

    def full(tensors: dict[str, torch.Tensor], path: Path, **kwargs: object) -> None:
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr("gr00t.model.checkpoint.folder.save_file", full)
    before = sorted(folder.iterdir())
    with pytest.raises(OSError, match="No space left"):
        model.save_pretrained(folder)
    assert sorted(folder.iterdir()) == before
    again = GR00T_N1_5.from_pretrained(folder).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in model.state_dict().items())


def test_the_saved_configuration_says_the_dtype(tmp_path: Path, tiny_a: Path) -> None:
    GR00T_N1_5.from_pretrained(tiny_a, torch_dtype=torch.bfloat16).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["torch_dtype"] == "bfloat16"
    assert Gr00tConfig.from_folder(tmp_path) == Gr00tConfig.from_folder(tiny_a)


def test_weights_are_in_memory_of_their_own(folder: Path) -> None:
    """A mapped file that was written over changed the model that was served; one that was cut, ended it."""
    model = GR00T_N1_5.from_pretrained(folder)
    before = [parameter.clone() for parameter in model.parameters()]
    with (folder / "model.safetensors").open("r+b") as file:
        file.write(bytes((folder / "model.safetensors").stat().st_size))
        file.truncate(10)
    assert len(before) > 100
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), before, strict=True))


def test_mixed_dtypes_become_the_one_asked_for() -> None:
    stored = load_file(PARITY / "tiny_e2e" / "model-00001-of-00002.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16, torch.float32}
    model = GR00T_N1_5.from_pretrained(PARITY / "tiny_e2e")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    embedding = stored["backbone.eagle_model.language_model.model.embed_tokens.weight"]
    assert torch.equal(model.backbone.language_model.embed_tokens.weight, embedding.float())


def test_lm_head_and_pooling_head_may_be_absent(folder: Path, model: GR00T_N1_5) -> None:
    def drop(tensors: dict[str, torch.Tensor]) -> None:
        unused = [name for name in tensors if N1_5_NAMES.is_unused(name)]
        assert len(unused) == 12
        for name in unused:
            del tensors[name]

    rewrite(folder, drop)
    without = GR00T_N1_5.from_pretrained(folder).state_dict()
    assert all(torch.equal(tensor, without[name]) for name, tensor in model.state_dict().items())


VARIANTS = {
    "no adapter": ("action_head_cfg.use_vlln", False),
    "no positions": ("action_head_cfg.add_pos_embed", False),
    "cross-attention only": ("action_head_cfg.diffusion_model_cfg.interleave_self_attention", False),
    "affine DiT norms": ("action_head_cfg.diffusion_model_cfg.norm_elementwise_affine", True),
    "projector": ("backbone_cfg.project_to_dim", 64),
    "five embodiments": ("action_head_cfg.max_num_embodiments", 5),
    "exact gelu": ("action_head_cfg.diffusion_model_cfg.activation_fn", "gelu"),
    "no attention bias": ("action_head_cfg.vl_self_attention_cfg.attention_bias", False),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_other_architectures_act_and_round_trip(tmp_path: Path, tiny_a: Path, variant: str) -> None:
    files = Gr00tConfig.from_folder(tiny_a).to_json_files()
    path, value = VARIANTS[variant]
    *parents, key = path.split(".")
    section = files["config.json"]
    for parent in parents:
        section = section[parent]
    section[key] = value
    torch.manual_seed(0)
    model = GR00T_N1_5(Gr00tConfig.from_json_files(files))
    model.save_pretrained(tmp_path)
    golden = load_file(tiny_a / "golden.safetensors")
    inputs = {
        "eagle_pixel_values": golden["b3/inputs/pixel_values"],
        "eagle_input_ids": golden["b3/inputs/input_ids"],
        "eagle_attention_mask": golden["b3/inputs/attention_mask"],
        "state": golden["b3/inputs/state"],
        "embodiment_id": torch.tensor([0, 4, 2]),
    }
    action = model.get_action(inputs, seeds=[1, 2, 3])["action_pred"]
    again = GR00T_N1_5.from_pretrained(tmp_path).get_action(inputs, seeds=[1, 2, 3])["action_pred"]
    assert action.shape == (3, 16, 32)
    assert action.isfinite().all()
    assert torch.equal(action, again)
