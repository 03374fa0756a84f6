"""Checkpoint folders of GR00T N1.7, read and written. Oracle: the bytes of the reference's own files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from gr00t.model.checkpoint.json_section import CheckpointError
from gr00t.model.checkpoint.n1d7.config import Gr00tN1d7Config
from gr00t.model.checkpoints import open_checkpoint
from gr00t.model.gr00t_n1d7.gr00t_n1d7 import Gr00tN1d7
from gr00t.model.meta_model import find_config
from tests.model.gr00t_n1d7.recorded_set import TINY, RecordedSet

LM_HEAD = "backbone.model.lm_head.weight"


def tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder by NVIDIA's name."""
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    files = {file: load_file(folder / file) for file in set(index.values())}
    return {name: files[file][name] for name, file in index.items()}


def rewrite(folder: Path, changed: dict[str, Tensor]) -> None:
    """Put other weights into a folder, in one file."""
    for path in folder.glob("model*"):
        path.unlink()
    save_file(changed, folder / "model.safetensors")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_every_byte_of_every_tensor_is_written_as_it_was_read(tmp_path: Path, dtype: torch.dtype) -> None:
    Gr00tN1d7.from_pretrained(TINY, torch_dtype=dtype).save_pretrained(tmp_path)
    original, written = tensors(TINY), tensors(tmp_path)
    # It is the embedding once more; NVIDIA's own save leaves it out as well.
    assert torch.equal(
        original.pop(LM_HEAD), original["backbone.model.model.language_model.embed_tokens.weight"]
    )
    assert written.keys() == original.keys()
    for name, tensor in original.items():
        assert written[name].dtype == dtype
        assert torch.equal(written[name].view(torch.uint8), tensor.to(dtype).view(torch.uint8)), name


def test_the_configurations_are_written_as_they_were_read(tmp_path: Path) -> None:
    Gr00tN1d7.from_pretrained(TINY, torch_dtype=torch.bfloat16).save_pretrained(tmp_path)
    for name in ("config.json", "backbone_config.json"):
        assert json.loads((tmp_path / name).read_text()) == json.loads((TINY / name).read_text())
    Gr00tN1d7.from_pretrained(TINY).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "float32"
    assert Gr00tN1d7Config.from_folder(tmp_path) == Gr00tN1d7Config.from_folder(TINY)


def test_without_lm_head_and_with_mixed_dtypes_it_is_the_same_model(folder: Path, tiny: RecordedSet) -> None:
    stored = tensors(folder)
    del stored[LM_HEAD]
    mixed = {
        name: value.float() if name.startswith("action_head.") else value for name, value in stored.items()
    }
    rewrite(folder, mixed)
    again = Gr00tN1d7.from_pretrained(folder).state_dict()
    assert all(torch.equal(again[name], value) for name, value in tiny.model.state_dict().items())
    checkpoint = open_checkpoint(folder)
    model, report = checkpoint.load_model(torch.float32, {})
    assert (type(model), report) == (Gr00tN1d7, None)


def test_weights_that_do_not_fit_are_told_with_what_was_assumed(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    del config["select_layer"], config["max_num_embodiments"]
    backbone = json.loads((folder / "backbone_config.json").read_text())
    backbone["text_config"]["num_hidden_layers"] = 28
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "backbone_config.json").write_text(json.dumps(backbone))
    with pytest.raises(CheckpointError) as error:
        Gr00tN1d7.from_pretrained(folder)
    first, missing, shapes = str(error.value).splitlines()[:3]
    assert first == (
        f"{folder}: the weights do not fit config.json and backbone_config.json, with what it does not say: "
        "select_layer 12 (nvidia/GR00T-N1.7-3B has 16); max_num_embodiments 32"
    )
    assert missing.startswith(
        "  missing: backbone.model.model.language_model.layers.5.self_attn.q_proj.weight"
    )
    assert (
        "W in model-00002-of-00002.safetensors is (12, 40, 40), the architecture has (32, 40, 40)" in shapes
    )


def test_a_hub_id_that_names_the_family_has_its_built_in_architecture() -> None:
    for name in ("nvidia/GR00T-N1.7-3B", "nvidia/GR00T-N1.7-LIBERO", "somebody/my_gr00t_n1d7_finetune"):
        config, said = find_config(name)
        assert config == Gr00tN1d7Config.full_size()
        assert said == f"the built-in full-size architecture: {name} is not in the local cache"
    assert not isinstance(find_config("nvidia/GR00T-N1.5-3B")[0], Gr00tN1d7Config)
    assert not isinstance(find_config("somebody/run17")[0], Gr00tN1d7Config)


def test_on_meta_nothing_is_real() -> None:
    model = Gr00tN1d7.on_meta(Gr00tN1d7Config.full_size(), torch.bfloat16)
    assert {(p.device.type, p.dtype, p.requires_grad) for p in model.parameters()} == {
        ("meta", torch.bfloat16, False)
    }
    assert not dict(model.named_buffers())
    assert not model.training


def test_converting_equals_loading_in_bfloat16(tiny: RecordedSet) -> None:
    loaded = Gr00tN1d7.from_pretrained(TINY, torch_dtype=torch.bfloat16)
    converted = tiny.model.bfloat16()
    actions = [m.get_action(tiny.inputs(3), noise=tiny.noise(3))["action_pred"] for m in (converted, loaded)]
    assert torch.equal(*actions)
