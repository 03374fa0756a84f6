"""The table between our names and NVIDIA's.

Oracle: the 1,031 entries and 469 Linear modules of the full-size reference, recorded from its constructor,
and the 176 that ports of it quantize.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn

from gr00t.model.checkpoint.folder import module_aliases
from gr00t.model.checkpoint.n1d7.config import Gr00tN1d7Config
from gr00t.model.checkpoint.names import N1_7_NAMES
from gr00t.model.gr00t_n1d7.gr00t_n1d7 import Gr00tN1d7
from gr00t.model.quantized_layers import DEFAULTS
from gr00t.quantization import DuQuantConfig, list_layers
from tests.model.gr00t_n1d7.recorded_set import PARITY_N17


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    return json.loads((PARITY_N17 / "manifest_n17_full.json").read_text())


@pytest.fixture(scope="module")
def full_size() -> Gr00tN1d7:
    return Gr00tN1d7.on_meta(Gr00tN1d7Config.full_size(), torch.bfloat16)


def test_the_full_size_model_has_the_names_and_shapes_of_the_manifest(
    full_size: Gr00tN1d7, manifest: dict[str, Any]
) -> None:
    ours = {
        N1_7_NAMES.to_checkpoint(name): list(value.shape) for name, value in full_size.state_dict().items()
    }
    theirs = {entry["name"]: entry["shape"] for entry in manifest["state_dict"]}
    unused = {name for name in theirs if N1_7_NAMES.is_unused(name)}
    assert unused == {"backbone.model.lm_head.weight"}
    assert ours == {name: shape for name, shape in theirs.items() if name not in unused}
    assert (len(theirs), len(ours)) == (1031, 1030)
    numbers = sum(value.numel() for value in full_size.state_dict().values())
    assert numbers == manifest["summary"]["numel_without_lm_head"] == 3_144_016_000


def test_names_translate_back_to_what_they_were(full_size: Gr00tN1d7) -> None:
    for name in full_size.state_dict():
        theirs = N1_7_NAMES.to_checkpoint(name)
        assert theirs is not None
        assert N1_7_NAMES.from_checkpoint(theirs) == name


def test_every_linear_has_the_alias_and_size_of_the_manifest(
    full_size: Gr00tN1d7, manifest: dict[str, Any]
) -> None:
    aliases = module_aliases(full_size)
    ours, theirs = Counter(), Counter()
    for name, module in full_size.named_modules():
        if isinstance(module, nn.Linear):
            size = module.in_features, module.out_features, module.bias is not None
            ours[(without_numbers(aliases[name]), *size)] += 1
    for family in manifest["linear_families"]:
        if not N1_7_NAMES.is_unused(f"{family['pattern']}."):
            size = family["in"], family["out"], family["bias"]
            theirs[(without_numbers(family["pattern"]), *size)] += family["count"]
    assert ours == theirs
    assert ours.total() == 469 - 1


def without_numbers(name: str) -> str:
    return re.sub(r"\.(\d+|N)(?=\.|$)", ".#", name)


def test_the_documents_expressions_take_the_176_layers_of_the_ports(
    full_size: Gr00tN1d7, manifest: dict[str, Any]
) -> None:
    config = DuQuantConfig.from_environ({"GR00T_DUQUANT_WBITS_DEFAULT": "4"}, DEFAULTS)
    assert config is not None
    plans = list_layers(full_size, config, module_aliases(full_size))
    taken = [plan for plan in plans if plan.spec is not None]
    assert {plan.alias for plan in taken} == set(manifest["quant_scope"]["names"])
    weights = {
        part: sum(plan.linear.weight.numel() for plan in taken if plan.name.startswith(part))
        for part in ("backbone.language_model.", "action_head.")
    }
    summary = manifest["summary"]
    assert len(taken) == summary["w4a8_scope_linears"] == 176
    assert [*weights.values()] == [summary["w4a8_scope_weights_llm"], summary["w4a8_scope_weights_dit_mlp"]]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            "backbone.language_model.layers.15.self_attn.q_proj",
            "backbone.model.model.language_model.layers.15.self_attn.q_proj",
        ),
        ("backbone.vision.blocks.3.attn.qkv.bias", "backbone.model.model.visual.blocks.3.attn.qkv.bias"),
        ("action_head.layers.31.mlp.up_proj", "action_head.model.transformer_blocks.31.ff.net.0.proj"),
        ("adapter.layers.2.mlp_norm", "action_head.vl_self_attention.transformer_blocks.2.norm3"),
    ],
)
def test_names_of_the_documented_table(ours: str, theirs: str) -> None:
    assert N1_7_NAMES.to_checkpoint(ours) == theirs
    assert N1_7_NAMES.from_checkpoint(theirs) == ours


@pytest.mark.parametrize(
    "name", ["action_head.future_tokens", "backbone.connector", "backbone.language_models.x", ""]
)
def test_names_of_another_family_and_parts_of_names_match_nothing(name: str) -> None:
    assert N1_7_NAMES.to_checkpoint(name) is None


def test_no_row_of_the_table_shadows_another() -> None:
    for column in zip(*N1_7_NAMES.rows, strict=True):
        assert len(set(column)) == len(N1_7_NAMES.rows)
        for name in column:
            assert not [other for other in column if other.startswith(f"{name}.")], name
