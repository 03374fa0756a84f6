"""What was written before there was a `duquant.json` still loads. Oracle: hashes taken by what wrote it.

tests/golden/version_1 holds an artefact and packs, written on 2026-11-30 by the version before the sidecar
(commit e55cd83), and the SHA-256 of each tensor that this version made of them.
"""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from gr00t.files.hashing import hash_file
from gr00t.model.checkpoints import QuantizedCheckpoint, open_checkpoint
from gr00t.quantization.checkpoint.checksums import ArtefactError
from gr00t.quantization.checkpoint.manifest import FILE
from gr00t.quantization.checkpoint.packs import PackStore
from gr00t.quantization.checkpoint.sidecar import SIDECAR
from gr00t.quantization.checkpoint.tensor_file import hash_tensor
from gr00t.quantization.duquant_layers import DuQuantLinear
from gr00t.quantization.settings.options import Rotation, RowRotation
from gr00t.quantization.settings.spec import IntFormat, LinearSpec

FOLDER = Path(__file__).parents[2] / "golden" / "version_1"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())
ROTATED = {"rotation": Rotation.DUQUANT, "row_rotation": RowRotation.PROPAGATE}
SPECS = {
    "v_proj": LinearSpec(64, 64, **ROTATED),
    "o_proj": LinearSpec(64, 64, **ROTATED, absorbs=True, smoothing=0.5, calibration_steps=1),
    "w8": LinearSpec(64, 64, weight=IntFormat(8)),
}


def digest(tensor: torch.Tensor) -> str:
    return hash_tensor(f"{tensor.dtype}{tuple(tensor.shape)}", tensor)


def linear(seed: int) -> nn.Linear:
    layer = nn.Linear(64, 64).requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    layer.weight.copy_(torch.randn(64, 64, generator=generator))
    layer.bias.copy_(torch.randn(64, generator=generator))
    return layer


def restore(folder: Path) -> tuple[PackStore, dict[str, DuQuantLinear]]:
    store = PackStore(folder)
    layers: dict[str, DuQuantLinear] = {}
    for seed, (name, spec) in enumerate(SPECS.items(), start=1):
        absorbed = layers["v_proj"].packed_state()["rotation_out"] if spec.absorbs else None
        layers[name] = store.layer(name, linear(seed), spec, rotation_absorbed=absorbed)
    return store, layers


@pytest.fixture
def packs(tmp_path: Path) -> Path:
    return shutil.copytree(FOLDER / "packs", tmp_path / "packs")


@pytest.fixture
def artefact(tmp_path: Path) -> Path:
    return shutil.copytree(FOLDER / "artefact", tmp_path / "artefact")


def test_packs_are_restored_bit_for_bit_and_left_as_they_are(packs: Path) -> None:
    store, layers = restore(packs)
    assert store.restored == 3
    assert store.sha256 == EXPECTED["packs_layers_sha256"]
    found = {
        f"{name}.{key}": digest(value)
        for name, layer in layers.items()
        for key, value in layer.packed_state().items()
    }
    assert found == EXPECTED["packs"]
    assert layers["o_proj"].spec.informed
    assert {path.name for path in packs.iterdir()} == {f"{name}.safetensors" for name in SPECS}


def test_a_pack_that_is_rebuilt_keeps_its_statistics_and_is_written_as_today(
    packs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = packs / "o_proj.safetensors"
    content = bytearray(path.read_bytes())
    place = content.index(b"}}") + 500  # within the codes, the first tensor of the file
    content[place] ^= 1
    path.write_bytes(content)
    store, layers = restore(packs)
    assert store.restored == 2
    assert layers["o_proj"].spec.informed
    assert caplog.messages == [
        "[GR00T-DUQUANT] Pack of o_proj is damaged (its data are not those written); rebuilt"
    ]
    assert json.loads((packs / SIDECAR).read_text())["content"]["layers"].keys() == {"o_proj"}
    assert restore(packs)[0].restored == 3


def test_an_artefact_loads_bit_for_bit(artefact: Path) -> None:
    checkpoint = open_checkpoint(artefact)
    assert isinstance(checkpoint, QuantizedCheckpoint)
    assert checkpoint.manifest.version == 1
    model, report = checkpoint.load_model(torch.bfloat16)
    assert {name: digest(value) for name, value in model.state_dict().items()} == EXPECTED["artefact"]
    assert report.layers_sha256 == EXPECTED["artefact_layers_sha256"]
    assert report.artefact is not None
    assert report.artefact["tensors_sha256"] == EXPECTED["artefact_layers_sha256"]


def test_a_changed_byte_of_an_artefact_is_noticed_wherever_it_is(artefact: Path) -> None:
    """As far as its tensors and its manifest go; the other files are checked as they are today."""
    path = artefact / FILE
    whole = path.read_bytes()
    places = [*range(0, 120), *range(120, len(whole), 4001), len(whole) - 1]
    unnoticed = []
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        try:
            checkpoint = open_checkpoint(artefact)
            assert isinstance(checkpoint, QuantizedCheckpoint)
            checkpoint.manifest.check_files(artefact)
        except ArtefactError:
            continue
        unnoticed.append(place)
    assert unnoticed == []


def test_the_hash_of_its_tensors_is_not_told_as_that_of_their_file(artefact: Path) -> None:
    checkpoint = open_checkpoint(artefact)
    assert FILE not in checkpoint.file_hashes
    assert checkpoint.file_hashes == {
        name: hash_file(artefact / name) for name in ("config.json", *checkpoint.file_hashes)
    }


def test_a_file_beside_it_that_it_does_not_know_is_refused(artefact: Path) -> None:
    (artefact / "vocab.json").write_text("{}")
    with pytest.raises(ArtefactError, match=r"vocab\.json: was not exported, but is of a kind that is read"):
        open_checkpoint(artefact).load_model(torch.bfloat16, {})
