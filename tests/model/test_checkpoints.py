"""What a folder is. Oracle: the folder, which each test has just written, and the text of each refusal."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch

from gr00t.cli.inspection.checkpoint_contents import read_contents
from gr00t.eval.session.artefacts import find_artefact
from gr00t.experiment.checkpoint_data_config import load_policy
from gr00t.model.artefact import export_artefact
from gr00t.model.checkpoint.json_section import CheckpointError
from gr00t.model.checkpoints import (
    FloatCheckpoint,
    QuantizedCheckpoint,
    find_manifest,
    open_checkpoint,
    scan_layers,
)
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.model.policy import Gr00tPolicy
from gr00t.quantization.checkpoint.checksums import ArtefactError
from gr00t.quantization.checkpoint.manifest import FILE
from gr00t.quantization.checkpoint.sidecar import SIDECAR
from gr00t.testing.random_checkpoint import write_random_checkpoint
from tests.model.small_artefact import LAYERS, act, quantized, serve, variables


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("home") / "checkpoint")


@pytest.fixture(scope="module")
def exported(checkpoint: Path) -> Path:
    folder = checkpoint.parent / "exported"
    model, report = quantized(checkpoint, variables(CALIB_STEPS="0"))
    export_artefact(model, report, checkpoint, folder)
    return folder


@pytest.fixture
def hub(exported: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A model hub that has `exported` under every name; what it is asked to download is noted."""
    asked: list[str] = []

    def download(hub_id: str, **kwargs: object) -> str:
        asked.append(hub_id)
        return str(exported)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda hub_id, file: str(exported / file))
    return asked


def test_a_float_checkpoint_and_a_quantized_one_are_told_apart(checkpoint: Path, exported: Path) -> None:
    found = open_checkpoint(checkpoint)
    assert isinstance(found, FloatCheckpoint)
    assert found.source.folder == checkpoint
    assert found.load_model(torch.bfloat16, {})[1] is None
    report = found.load_model(torch.bfloat16, variables(CALIB_STEPS="0"))[1]
    assert report is not None
    assert len(report.layers) == LAYERS
    found = open_checkpoint(exported)
    assert isinstance(found, QuantizedCheckpoint)
    assert len(found.load_model(torch.bfloat16)[1].layers) == len(found.manifest.layers) == LAYERS


def test_from_pretrained_knows_floats_only_and_names_what_to_call(exported: Path) -> None:
    with pytest.raises(CheckpointError, match=r"quantized checkpoint, .* serve it with Gr00tPolicy, or load"):
        GR00T_N1_5.from_pretrained(exported)


@pytest.mark.parametrize("opens", [open_checkpoint, Gr00tPolicy, GR00T_N1_5.from_pretrained, find_manifest])
def test_what_is_nothing_is_one_error_whoever_opens_it(
    opens: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CheckpointError, match=r"^nothing here: no such folder \(and not a model hub id"):
        opens("nothing here")


def test_home_is_written_out_wherever_a_checkpoint_is_named(
    checkpoint: Path, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(checkpoint.parent))
    assert open_checkpoint("~/checkpoint").source.folder == checkpoint
    assert find_manifest("~/exported") is not None
    assert load_policy("~/exported", device="cpu", environ={}).model_path == exported
    assert len(scan_layers("~/checkpoint", variables(DRYRUN="1", WBITS_DEFAULT="4"))) == LAYERS


def test_a_policy_looks_for_its_checkpoint_once(hub: list[str]) -> None:
    load_policy("somebody/a-policy", device="cpu", environ={})
    assert hub == ["somebody/a-policy"]


def test_a_quantized_checkpoint_of_the_hub_is_listed_without_a_download(
    hub: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert len(scan_layers("somebody/a-policy", variables(DRYRUN="1"))) == LAYERS
    assert f"[GR00T-DUQUANT] Matched Linear layers: {LAYERS}, all of the artefact" in caplog.messages
    assert hub == []


def test_a_checkpoint_may_keep_the_packs_of_its_own_layers(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Oracle: the packs in a folder of their own, and the checkpoint without any.
    caplog.set_level(logging.INFO)
    folder = shutil.copytree(checkpoint, tmp_path / "checkpoint")
    environ = variables(CALIB_STEPS="0", PACKDIR=str(folder))
    elsewhere = variables(CALIB_STEPS="0", PACKDIR=str(tmp_path / "packs"))
    expected = act(serve(folder, elsewhere))
    for restored in (0, LAYERS):
        caplog.clear()
        assert np.array_equal(act(serve(folder, environ)), expected)
        found = f"{restored} of {LAYERS} layers restored"
        assert f"[GR00T-DUQUANT] PACKDIR {folder}: {found}" in caplog.messages
    off = variables(ENABLE="0", PACKDIR=str(folder))
    assert np.array_equal(act(serve(folder, off)), act(serve(checkpoint, {})))
    assert find_manifest(folder) is find_artefact(str(folder)) is None
    contents, before = read_contents(folder), read_contents(checkpoint)
    assert (contents["kind"], contents["float_bytes"]) == ("float", before["float_bytes"])
    # What is exported from it says nothing of the packs.
    export_artefact(*quantized(folder, environ), folder, tmp_path / "exported")
    assert np.array_equal(act(serve(tmp_path / "exported", {})), expected)
    # A damaged description of packs is the packs' affair: without them the checkpoint is served.
    path = folder / SIDECAR
    path.write_text(path.read_text().replace('"block_in": 16', '"block_in": 17', 1))
    assert find_manifest(folder) is find_artefact(str(folder)) is None
    assert np.array_equal(act(serve(folder, elsewhere)), expected)
    with pytest.raises(ArtefactError, match=r"duquant\.json: its content is not what .* bring it back"):
        serve(folder, environ)


@pytest.mark.parametrize("damage", ["", "kind", "cut"])
def test_an_artefact_without_its_quantized_layers_is_never_taken_for_a_float_checkpoint(
    exported: Path, tmp_path: Path, damage: str
) -> None:
    folder = shutil.copytree(exported, tmp_path / "copy")
    (folder / FILE).unlink()
    path = folder / SIDECAR
    if damage == "kind":
        path.write_text(path.read_text().replace('"kind": "artefact"', '"kind": "other"'))
    elif damage == "cut":
        path.write_text(path.read_text()[:-100])
    with pytest.raises((ArtefactError, CheckpointError), match=r"duquant\.(safetensors|json)"):
        load_policy(folder, device="cpu", environ={})
    if damage:
        for finds in (find_manifest, find_artefact):
            with pytest.raises(ArtefactError, match=r"duquant\.json"):
                finds(str(folder))


def test_an_artefact_that_is_named_as_packdir_stays_what_it_is(checkpoint: Path, exported: Path) -> None:
    before = {path: path.read_bytes() for path in exported.rglob("*") if path.is_file()}
    environ = variables(CALIB_STEPS="0", PACKDIR=str(exported))
    serve(exported, environ)  # without effect
    with pytest.raises(ArtefactError, match="is the folder of an exported model, which packs would damage"):
        serve(checkpoint, environ)
    assert {path: path.read_bytes() for path in exported.rglob("*") if path.is_file()} == before


def test_saying_what_a_folder_is_imports_no_torch(exported: Path) -> None:
    code = (
        "import sys; from gr00t.model.checkpoints import open_checkpoint; "
        f"open_checkpoint({str(exported)!r}); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
