"""Float layers packed while they are read. Oracle: the same artefact, loaded first and packed then."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from gr00t.model.artefact import export_artefact
from gr00t.model.checkpoint.json_section import CheckpointError
from gr00t.model.network import packed_linear
from gr00t.model.network.packed_linear import PackedLinear, can_pack
from gr00t.model.policy import Gr00tPolicy
from gr00t.model.serving_form import settle_weights
from gr00t.quantization.checkpoint.checksums import ArtefactError
from gr00t.testing.random_checkpoint import write_random_checkpoint
from tests.model.small_artefact import KINDS, act, quantized, reseal, serve, variables

WEIGHTS = "model-00001-of-00001.safetensors"
LAYER = "action_head.model.timestep_encoder.timestep_embedder.linear_1"

pytestmark = pytest.mark.skipif(not can_pack(), reason="needs a CPU with bfloat16 in oneDNN")


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    checkpoint = write_random_checkpoint(folder / "checkpoint")
    model, report = quantized(checkpoint, variables(**KINDS["dynamic"]))
    export_artefact(model, report, checkpoint, folder / "out")
    return folder / "out"


def served(folder: Path) -> Gr00tPolicy:
    return serve(folder, {}, settled=True)


def packed(policy: Gr00tPolicy) -> dict[str, PackedLinear]:
    return {name: layer for name, layer in policy.model.named_modules() if isinstance(layer, PackedLinear)}


def test_layers_and_answers_are_those_of_packing_afterwards(
    artefact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = serve(artefact, {})
    settle_weights(later.model)
    # Whoever loads does all of it: nothing is left for later.
    monkeypatch.setattr("gr00t.model.serving_form.pack_linears", lambda model: 0)
    policy = served(artefact)
    layers, expected = packed(policy), packed(later)
    assert list(layers) == list(expected)
    assert len(layers) > 20
    for name, layer in layers.items():
        assert layer.training == expected[name].training
        found, wanted = layer.state_dict(), expected[name].state_dict()
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[key], wanted[key]) for key in wanted), name
    for seed in (1, 2):
        np.testing.assert_array_equal(act(policy, seed), act(later, seed))


def changed(artefact: Path, copy: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> Path:
    """A copy with another weight of a float layer."""
    shutil.copytree(artefact, copy)
    tensors = load_file(copy / WEIGHTS)
    tensors[f"{LAYER}.weight"] = change(tensors[f"{LAYER}.weight"]).contiguous()
    save_file(tensors, copy / WEIGHTS, {"format": "pt"})
    return copy


def test_every_byte_is_still_hashed(artefact: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=f"{WEIGHTS}: changed since it was exported"):
        served(changed(artefact, tmp_path / "copy", lambda weight: -weight))


def test_what_is_packed_is_finite(artefact: Path, tmp_path: Path) -> None:
    def spoil(weight: torch.Tensor) -> torch.Tensor:
        weight[1, 1] = float("inf")
        return weight

    copy = changed(artefact, tmp_path / "copy", spoil)
    reseal(copy)
    complaint = rf"{WEIGHTS}: action_head\.time_encoder\.linear_1 holds inf or NaN$"
    with pytest.raises(CheckpointError, match=complaint):
        served(copy)


@pytest.mark.parametrize("change", [lambda weight: weight[:-1], lambda weight: weight[None]])
def test_another_shape_is_refused_as_everywhere(
    artefact: Path, tmp_path: Path, change: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    copy = changed(artefact, tmp_path / "copy", change)
    reseal(copy)
    refused = []
    for settled in (True, False):
        with pytest.raises(CheckpointError, match=rf"{LAYER}\.weight") as caught:
            serve(copy, {}, settled=settled)
        refused.append(str(caught.value))
    assert refused[0] == refused[1]


def test_weights_pass_through_one_buffer(artefact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = []
    pack = packed_linear.pack_weight

    def noted(weight: torch.Tensor) -> torch.Tensor:
        places.append(weight.untyped_storage().data_ptr())
        return pack(weight)

    monkeypatch.setattr("gr00t.model.packed_part.pack_weight", noted)
    layers = packed(served(artefact))
    assert len(places) == len(layers)
    assert len(set(places)) < 8, "memory is taken anew only where a weight is larger than all before"
