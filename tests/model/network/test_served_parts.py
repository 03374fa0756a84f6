"""An artefact that is served. Oracle: the same artefact, loaded whole; hashes and byte counts."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from examples.Libero.custom_data_config import LiberoDataConfig
from gr00t.model.artefact import export_artefact
from gr00t.model.checkpoint.config import Gr00tConfig
from gr00t.model.checkpoint.json_section import CheckpointError
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.model.network.served_tables import ServedEmbedding, ServedEmbodiment
from gr00t.model.policy import Gr00tPolicy
from gr00t.model.served_parts import served_parts
from gr00t.quantization.checkpoint.checksums import ArtefactError
from gr00t.testing.random_checkpoint import write_random_checkpoint
from tests.model.small_artefact import KINDS, act, quantized, reseal, serve, variables

OWN = 31  # new_embodiment
WEIGHTS = "model-00001-of-00001.safetensors"
EMBEDDING = "backbone.language_model.embed_tokens"
TABLE = "action_head.state_encoder.layer1.W"


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    checkpoint = write_random_checkpoint(folder / "checkpoint")
    model, report = quantized(checkpoint, variables(**KINDS["dynamic"]))
    export_artefact(model, report, checkpoint, folder / "out")
    return folder / "out"


def served(folder: Path, compiled: bool = False, dtype: torch.dtype = torch.bfloat16) -> Gr00tPolicy:
    return serve(folder, {}, dtype, compiled=compiled, settled=True)


def changed(artefact: Path, copy: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    """A copy with other weights."""
    shutil.copytree(artefact, copy)
    tensors = load_file(copy / WEIGHTS)
    change(tensors)
    save_file(tensors, copy / WEIGHTS, {"format": "pt"})
    return copy


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_answers_are_those_of_the_whole_model(
    artefact: Path, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("packed_part", "network.packed_linear"):  # small ones: other bits
        monkeypatch.setattr(f"gr00t.model.{name}.can_pack", lambda: False)
    whole, policy = serve(artefact, {}, dtype), served(artefact, dtype=dtype)
    for seed in (1, 2, 1):
        np.testing.assert_array_equal(act(policy, seed), act(whole, seed))


def test_the_weights_of_one_embodiment_are_kept(artefact: Path) -> None:
    whole, policy = serve(artefact, {}), served(artefact)
    kept = {
        name: module for name, module in policy.model.named_modules() if isinstance(module, ServedEmbodiment)
    }
    assert len(kept) == 7
    for name, module in kept.items():
        expected = whole.model.get_submodule(name)
        assert torch.equal(module.weight, expected.weight[OWN])
        assert torch.equal(module.bias, expected.bias[OWN])
        assert module.weight.untyped_storage().nbytes() * 32 == expected.weight.nbytes


def test_another_embodiment_is_refused(artefact: Path) -> None:
    layer = served(artefact).model.action_head.state_encoder.layer1
    x = torch.zeros(2, 1, layer.weight.shape[0], dtype=torch.bfloat16)
    with pytest.raises(ValueError, match=r"^embodiment_id: got 5, this model serves 31 alone$"):
        layer(x, 5)
    with pytest.raises(ValueError, match=r"^embodiment_id: got 5, 31, this model serves 31 alone$"):
        layer(x, torch.tensor([31, 5]))


def test_a_model_that_is_not_whole_is_neither_saved_nor_moved(artefact: Path) -> None:
    head = served(artefact).model.action_head.state_encoder
    for attempt in (head.state_dict, lambda: head.load_state_dict({}), head.double):
        with pytest.raises(RuntimeError, match="without weights that no request needs: load it anew, whole"):
            attempt()


def test_a_compiled_model_and_one_that_is_not_settled_are_whole(artefact: Path) -> None:
    for policy in (served(artefact, compiled=True), serve(artefact, {})):
        assert len(policy.model.action_head.state_encoder.layer1.weight) == 32
        assert policy.model.state_dict()


@pytest.mark.parametrize("number", [-1, 32])
def test_a_number_that_no_embodiment_has_is_refused(artefact: Path, number: int) -> None:
    data = LiberoDataConfig()
    transform = data.transform()
    transform.transforms[-1].embodiment_tag_mapping["new_embodiment"] = number
    with pytest.raises(ValueError, match=f"'new_embodiment' is number {number}, the checkpoint has 32 emb"):
        Gr00tPolicy(artefact, "new_embodiment", data.modality_config(), transform, environ={}, device="cpu")


def test_parts_that_passed_unseen_are_an_error() -> None:
    model = GR00T_N1_5.on_meta(Gr00tConfig.full_size(), torch.bfloat16)
    parts = served_parts(model, 31)
    for part in parts.values():
        with pytest.raises(CheckpointError, match=r"not read|nothing was read for embodiment 31"):
            part.place(model)


def test_every_byte_is_still_hashed(artefact: Path, tmp_path: Path) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors[TABLE][0, 0, 0] += 1

    copy = changed(artefact, tmp_path / "copy", change)
    with pytest.raises(ArtefactError, match=f"{WEIGHTS}: changed since it was exported"):
        served(copy)


def test_what_is_kept_is_finite(artefact: Path, tmp_path: Path) -> None:
    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        tensors[TABLE][OWN, 1, 1] = float("nan")

    copy = changed(artefact, tmp_path / "copy", spoil)
    reseal(copy)
    with pytest.raises(CheckpointError, match=r"state_encoder.layer1 holds inf or NaN, embodiment 31$"):
        served(copy)


def test_rows_of_the_embedding_are_read_when_they_are_first_asked_for(artefact: Path) -> None:
    weight = serve(artefact, {}).model.get_submodule(EMBEDDING).weight
    embedding = served(artefact).model.get_submodule(EMBEDDING)
    assert isinstance(embedding, ServedEmbedding)
    asked = []
    read = embedding._read
    embedding._read = lambda row: asked.append(row) or read(row)
    for ids in ([[3, 0, 3]], [[3, 0, len(weight) - 1], [0, 0, 7]]):
        assert torch.equal(embedding(torch.tensor(ids)), weight[torch.tensor(ids)])
    assert asked == [0, 3, 7, len(weight) - 1]
    assert len(embedding._table) == 4


def test_a_file_that_is_written_over_is_an_error_and_never_another_answer(
    artefact: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(artefact, tmp_path / "copy")
    policy = served(copy)
    before = act(policy)
    with (copy / WEIGHTS).open("r+b") as file:
        file.write(bytes((copy / WEIGHTS).stat().st_size))
    np.testing.assert_array_equal(act(policy), before)  # rows that were read are kept
    embedding = policy.model.get_submodule(EMBEDDING)
    absent = int((embedding._places < 0).nonzero()[-1])
    for _ in range(2):
        with pytest.raises(CheckpointError, match=f"{WEIGHTS}: written over or cut while it is served"):
            embedding(torch.tensor([[absent]]))


def test_the_embedding_is_finite(artefact: Path, tmp_path: Path) -> None:
    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        tensors["backbone.eagle_model.language_model.model.embed_tokens.weight"][70, 3] = float("inf")

    copy = changed(artefact, tmp_path / "copy", spoil)
    reseal(copy)
    with pytest.raises(CheckpointError, match=r"embed_tokens holds inf or NaN$"):
        served(copy)
