"""The table between our names and the checkpoint's.

Oracle: the 899 entries and 391 Linear modules of the full-size reference, recorded from its constructor.
"""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from gr00t.model.checkpoint.config import Gr00tConfig
from gr00t.model.checkpoint.folder import module_aliases
from gr00t.model.checkpoint.names import N1_5_NAMES
from gr00t.model.gr00t_n1 import GR00T_N1_5
from tests.model.parity_set import PARITY


@pytest.fixture(scope="module")
def manifest() -> dict[str, dict[str, list[int]]]:
    return json.loads((PARITY / "manifest_full.json").read_text())


@pytest.fixture(scope="module")
def full_size() -> GR00T_N1_5:
    return GR00T_N1_5.on_meta(Gr00tConfig.full_size(), torch.bfloat16)


def test_the_full_size_model_has_the_names_and_shapes_of_the_manifest(full_size, manifest) -> None:
    ours = {
        N1_5_NAMES.to_checkpoint(name): list(tensor.shape) for name, tensor in full_size.state_dict().items()
    }
    unused = {name for name in manifest["state_dict"] if N1_5_NAMES.is_unused(name)}
    assert ours == {name: shape for name, shape in manifest["state_dict"].items() if name not in unused}
    # lm_head and the eleven tensors of the pooling head.
    assert (len(manifest["state_dict"]), len(unused), len(ours)) == (899, 12, 887)


def test_names_translate_back_to_what_they_were(full_size) -> None:
    for name in full_size.state_dict():
        assert N1_5_NAMES.from_checkpoint(N1_5_NAMES.to_checkpoint(name)) == name


def test_every_linear_has_the_alias_and_size_of_the_manifest(full_size, manifest) -> None:
    aliases = module_aliases(full_size)
    ours = {
        aliases[name]: [module.in_features, module.out_features]
        for name, module in full_size.named_modules()
        if isinstance(module, nn.Linear)
    }
    used = {
        name: size
        for name, size in manifest["linear_modules"].items()
        if not N1_5_NAMES.is_unused(f"{name}.")
    }
    assert ours == used
    assert len(used) == 391 - 4


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            "backbone.language_model.layers.11.self_attn.q_proj",
            "backbone.eagle_model.language_model.model.layers.11.self_attn.q_proj",
        ),
        ("action_head.layers.3.mlp.up_proj", "action_head.model.transformer_blocks.3.ff.net.0.proj"),
        ("action_head.layers.3.mlp.down_proj", "action_head.model.transformer_blocks.3.ff.net.2"),
        (
            "action_head.layers.15.attn.o_proj.bias",
            "action_head.model.transformer_blocks.15.attn1.to_out.0.bias",
        ),
        ("adapter.layers.2.mlp_norm", "action_head.vl_self_attention.transformer_blocks.2.norm3"),
        ("backbone.projector.weight", "backbone.eagle_linear.weight"),
    ],
)
def test_names_of_the_documented_table(ours: str, theirs: str) -> None:
    assert N1_5_NAMES.to_checkpoint(ours) == theirs
    assert N1_5_NAMES.from_checkpoint(theirs) == ours


@pytest.mark.parametrize(
    "name", ["action_head.layers.3.mlp.up_projection", "backbone.vision2.x", "adapter", ""]
)
def test_only_whole_parts_of_a_name_match(name: str) -> None:
    assert N1_5_NAMES.to_checkpoint(name) is None


def test_no_row_of_the_table_shadows_another() -> None:
    for column in zip(*N1_5_NAMES.rows, strict=True):
        assert len(set(column)) == len(N1_5_NAMES.rows)
        for name in column:
            assert not [other for other in column if other.startswith(f"{name}.")], name
