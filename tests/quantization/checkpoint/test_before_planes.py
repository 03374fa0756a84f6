"""Packs and exported models of before codes of 2, 3, 5, 6 and 7 bits were stored without gaps still load.

tests/golden/before_planes holds packs written on 2026-12-01 by the version before (commit 3005793), and the
SHA-256 of each layer's integer weight as that version multiplied it. An exported model of then is one of
today whose tensors are stored as they were (`older`).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from gr00t.model.artefact import export_artefact
from gr00t.model.checkpoint.names import N1_5_NAMES
from gr00t.quantization.checkpoint.packs import PackStore
from gr00t.quantization.checkpoint.tensor_file import hash_tensor, read_tensors
from gr00t.quantization.settings.spec import IntFormat, LinearSpec
from gr00t.testing.random_checkpoint import write_random_checkpoint
from tests.model.small_artefact import act, quantized, reseal, serve, variables
from tests.quantization.numerics.test_older_storage import older

FOLDER = Path(__file__).parents[2] / "golden" / "before_planes"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())
BITS = (2, 3, 5, 6, 7)


def linear(seed: int) -> nn.Linear:
    layer = nn.Linear(64, 64, bias=False).requires_grad_(False)
    layer.weight.copy_(torch.randn(64, 64, generator=torch.Generator().manual_seed(seed)))
    return layer


@pytest.fixture
def packs(tmp_path: Path) -> Path:
    return shutil.copytree(FOLDER / "packs", tmp_path / "packs")


def test_packs_are_restored_to_the_same_numbers_and_left_as_they_are(packs: Path) -> None:
    store = PackStore(packs)
    for bits in BITS:
        name = f"w{bits}"
        layer = store.layer(name, linear(bits), LinearSpec(64, 64, weight=IntFormat(bits)))
        assert hash_tensor("", layer._integer_weight()) == EXPECTED[name]["integer_weight"]
        stored = read_tensors(packs / f"{name}.safetensors")[1]["codes"]
        assert [list(stored.shape), str(stored.dtype)] == EXPECTED[name]["codes"]
        assert layer.codes is not None
        assert layer.codes.nbytes == 8 * bits * 64
        assert store.holds(name, layer)
    assert store.restored == len(BITS)
    assert store.sha256 == EXPECTED["packs_layers_sha256"]


def test_the_same_layers_are_quantized_today(tmp_path: Path) -> None:
    store = PackStore(tmp_path)
    for bits in BITS:
        layer = store.layer(f"w{bits}", linear(bits), LinearSpec(64, 64, weight=IntFormat(bits)))
        assert hash_tensor("", layer._integer_weight()) == EXPECTED[f"w{bits}"]["integer_weight"]


def test_an_exported_model_of_before_gives_the_same_actions(tmp_path: Path) -> None:
    checkpoint = write_random_checkpoint(tmp_path / "checkpoint")
    folder = tmp_path / "out"
    environ = variables(CALIB_STEPS="0", WBITS_DEFAULT="3", WBITS="action_head.*:6")
    export_artefact(*quantized(checkpoint, environ), checkpoint, folder)
    policy = serve(folder, {})
    expected = act(policy)
    layers = policy.quantization.layers

    def store_as_before(tensors: dict[str, torch.Tensor]) -> None:
        for name, layer in layers.items():
            for buffer, value in older(layer).items():
                key = f"{N1_5_NAMES.to_checkpoint(name)}.{buffer}"
                assert tensors[key].nbytes < value.nbytes or buffer != "codes"
                tensors[key] = value

    reseal(folder, change_tensors=store_as_before)
    again = serve(folder, {})
    np.testing.assert_array_equal(act(again), expected)
    for name, layer in again.quantization.layers.items():
        assert torch.equal(layer.codes, layers[name].codes)
        assert torch.equal(layer.block_scale, layers[name].block_scale)
