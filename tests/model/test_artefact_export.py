"""Exporting, and what is damaged afterwards. Oracles: the checkpoint, and the bytes that were written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from gr00t.cli.serving.arguments import ServeArguments
from gr00t.cli.serving.server import server_info
from gr00t.files.hashing import hash_file
from gr00t.model import artefact
from gr00t.model.artefact import export_artefact
from gr00t.model.checkpoint.folder import CheckpointError
from gr00t.quantization.checkpoint.checksums import ArtefactError
from gr00t.quantization.checkpoint.manifest import FILE, read_manifest
from gr00t.quantization.checkpoint.sidecar import SIDECAR
from gr00t.serving import identity
from gr00t.serving.identity import folder_hash
from gr00t.testing.random_checkpoint import write_random_checkpoint
from tests.model.small_artefact import LAYERS, load, quantized, serve, variables


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def copy(checkpoint: Path, tmp_path: Path) -> Path:
    """An artefact that a test may damage."""
    model, report = quantized(checkpoint, variables(CALIB_STEPS="0"))
    export_artefact(model, report, checkpoint, tmp_path / "out")
    return tmp_path / "out"


# What is damaged


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("file", "place", "message"),
    [
        (FILE, -1, r"duquant\.safetensors: changed since it was exported"),
        ("model-00001-of-00001.safetensors", -1, r"model-00001-of-00001\.safetensors: changed since"),
        ("experiment_cfg/metadata.json", 100, r"experiment_cfg/metadata\.json: changed since"),
    ],
)
def test_a_changed_file_is_refused_by_policy_and_model(copy, file, place, message):
    if file.endswith("metadata.json"):
        text = (copy / file).read_text()
        (copy / file).write_text(text.replace("0.6", "0.7"))
    else:
        flip(copy / file, place)
    with pytest.raises(ArtefactError, match=message):
        serve(copy, {})
    with pytest.raises(ArtefactError, match=message):
        load(copy)


def test_every_byte_counts_although_the_server_tells_hashes_that_it_does_not_compute(copy, monkeypatch):
    # Oracle: the hash over every file, read anew.
    whole, policy, read = folder_hash(copy), serve(copy, {}, settled=True), []
    manifest = read_manifest(copy)
    assert manifest is not None
    files = sorted(str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file())
    known = [name for name in files if name in policy.file_hashes]
    assert [name for name in files if name not in known] == [SIDECAR]
    monkeypatch.setattr(identity, "hash_file", lambda path: read.append(path) or hash_file(path))
    info = server_info(ServeArguments(model_path=str(copy)), policy)
    assert info["identity"]["model"] == whole
    assert [path for path in read if path.is_relative_to(copy)] == [copy / SIDECAR]
    for name in known:
        content = (copy / name).read_bytes()
        flip(copy / name, len(content) // 2)
        with pytest.raises(ValueError):  # noqa: PT011 - of whoever reads it first
            serve(copy, {}, settled=True)
        with pytest.raises(ArtefactError, match=rf"{name}: changed since it was exported"):
            manifest.check_files(copy)
        (copy / name).write_bytes(content)
    assert folder_hash(copy) == whole


def test_a_changed_configuration_is_refused(copy):
    config = json.loads((copy / "config.json").read_text())
    config["action_head_cfg"]["num_inference_timesteps"] += 1
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ArtefactError, match=r"config\.json: \d+ bytes, exported were"):
        load(copy)


def test_a_folder_that_lost_its_quantized_layers_is_refused(copy):
    (copy / FILE).unlink()
    with pytest.raises(ArtefactError, match=r"duquant\.safetensors: missing"):
        load(copy)
    (copy / SIDECAR).unlink()
    with pytest.raises(CheckpointError, match=r"names duquant\.safetensors \(for .*\), which is not in"):
        load(copy)


def test_a_layer_that_the_architecture_does_not_have_is_named(copy):
    manifest = read_manifest(copy)
    with torch.device("meta"):
        model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    config = manifest.config({})
    with pytest.raises(
        ArtefactError, match=r"has a layer backbone\S+ \(128, 128\), the architecture nothing"
    ):
        artefact.place_layers(model, manifest, config)


# Exporting


def test_the_same_export_gives_the_same_bytes(copy, checkpoint, tmp_path):
    model, report = quantized(checkpoint, variables(CALIB_STEPS="0", EXECUTION="integer", DEBUG="1"))
    export_artefact(model, report, checkpoint, tmp_path / "again")
    files = sorted(path.relative_to(copy) for path in copy.rglob("*") if path.is_file())
    assert len(files) == 8
    assert [
        name for name in files if (copy / name).read_bytes() != (tmp_path / "again" / name).read_bytes()
    ] == []


def test_everything_else_is_as_in_the_checkpoint(copy, checkpoint):
    for name in ("tokenizer.json", "experiment_cfg/metadata.json", "config.json", "eagle_config.json"):
        assert (copy / name).read_bytes() == (checkpoint / name).read_bytes()
    with (
        safe_open(checkpoint / "model-00001-of-00001.safetensors", "pt") as before,
        safe_open(copy / "model-00001-of-00001.safetensors", "pt") as after,
    ):
        kept = after.keys()
        assert len(set(before.keys()) - set(kept)) == LAYERS + 8  # weights; the DiT's have a bias, too
        assert all(torch.equal(before.get_tensor(name), after.get_tensor(name)) for name in kept)
    mode = (checkpoint / "config.json").stat().st_mode
    assert {path.stat().st_mode for path in copy.rglob("*") if path.is_file()} == {mode}


def test_a_tokenizer_goes_along_where_the_checkpoint_has_none(checkpoint, tmp_path):
    bare = shutil.copytree(checkpoint, tmp_path / "bare")
    (bare / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    model, report = quantized(bare, variables(CALIB_STEPS="0"))
    export_artefact(model, report, bare, tmp_path / "out", tokenizer=tmp_path)
    assert "tokenizer.json" in read_manifest(tmp_path / "out").files
    assert serve(tmp_path / "out", {}).quantization_report()["layers_quantized"] == LAYERS


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"CALIB_STEPS": "2"}, r"22 of 22 layers have no static activation scales yet .*calibrate\.py"),
        ({"WBITS_DEFAULT": "16", "ABITS": "16"}, "nothing is quantized"),
    ],
)
def test_what_is_not_quantized_to_the_end_is_not_exported(checkpoint, tmp_path, settings, message):
    model, report = quantized(checkpoint, variables(**settings))
    with pytest.raises(ArtefactError, match=message):
        export_artefact(model, report, checkpoint, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_over(checkpoint, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    model, report = quantized(checkpoint, variables(CALIB_STEPS="0"))
    with pytest.raises(FileExistsError, match="out is there already; delete it, or name another folder"):
        export_artefact(model, report, checkpoint, tmp_path / "out")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "mine"]


def test_an_export_that_fails_leaves_nothing(checkpoint, tmp_path, monkeypatch):
    def full(*args):
        raise OSError("No space left on device")

    monkeypatch.setattr(artefact, "write_tensors", full)
    model, report = quantized(checkpoint, variables(CALIB_STEPS="0"))
    with pytest.raises(OSError, match="No space left"):
        export_artefact(model, report, checkpoint, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_is_killed_leaves_nothing_that_loads(checkpoint, tmp_path, monkeypatch, caplog):
    """Killed when all is written but the manifest: nobody tidies up."""

    class KilledError(BaseException):
        pass

    def kill(*args):
        raise KilledError

    model, report = quantized(checkpoint, variables(CALIB_STEPS="0"))
    with monkeypatch.context() as patched:
        patched.setattr(artefact.Manifest, "write", kill)
        patched.setattr("gr00t.files.atomic.remove", lambda path: None)
        with pytest.raises(KilledError):
            export_artefact(model, report, checkpoint, tmp_path / "out")
    (left,) = tmp_path.iterdir()
    with pytest.raises(ArtefactError, match="nothing says what its layers are"):
        load(left)
    export_artefact(model, report, checkpoint, tmp_path / "out")
    assert f"{left} is left from an export that was killed, or still runs" in caplog.messages
    assert len(read_manifest(tmp_path / "out").layers) == LAYERS


def test_a_quantized_model_is_not_saved_as_a_float_checkpoint(copy, tmp_path):
    model = load(copy)
    with pytest.raises(CheckpointError, match="a quantized layer has no place in NVIDIA's layout"):
        model.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_a_quantized_model_is_not_trained(copy, tmp_path):
    pytest.importorskip("av")
    pytest.importorskip("pyarrow")
    from tests.cli.training.training_runs import run

    with pytest.raises(ValueError, match=r"is quantized and cannot be trained; start from .*checkpoint"):
        run(tmp_path / "no data are read", copy, tmp_path / "trained", "--steps", "1")
