"""Artefacts changed by somebody who computes hashes anew, or adds what no hash covers: refused by name."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from gr00t.model.checkpoint.config import Gr00tConfig
from gr00t.model.checkpoint.folder import CheckpointError, module_aliases
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.quantization.checkpoint.artefact import check_exportable, place_layers
from gr00t.quantization.checkpoint.checksums import ArtefactError
from gr00t.quantization.checkpoint.manifest import FILE, read_manifest
from gr00t.quantization.checkpoint.sidecar import SIDECAR, write_sidecar
from gr00t.testing.random_checkpoint import write_random_checkpoint
from tests.model.small_artefact import KINDS, calibrate, load, quantized, reseal, serve, variables

LAYER = "backbone.eagle_model.language_model.model.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artefact with every tensor that a layer can have."""
    from gr00t.model.artefact import export_artefact

    folder = tmp_path_factory.mktemp("sealed")
    checkpoint = write_random_checkpoint(folder / "checkpoint")
    environ = variables(PACKDIR=str(folder / "packs"), **KINDS["static"])
    calibrate(checkpoint, environ)
    model, report = quantized(checkpoint, environ)
    export_artefact(model, report, checkpoint, folder / "out")
    return folder / "out"


@pytest.fixture
def copy(sealed: Path, tmp_path: Path) -> Path:
    return shutil.copytree(sealed, tmp_path / "copy")


def test_what_is_resealed_without_a_change_loads(copy):
    reseal(copy)
    load(copy)


# What no hash covers


@pytest.mark.parametrize(
    "name",
    [
        *("tokenizer_config.json", "vocab.json", "merges.txt", "added_tokens.json", "adapter_config.json"),
        *("experiment_cfg/more.json", "model.safetensors", "other.SAFETENSORS", "chat_template.jinja"),
    ],
)
def test_a_file_that_was_not_exported_but_is_of_a_kind_that_is_read_is_refused(copy, name):
    (copy / name).write_text("{}")
    expected = rf"{name}: was not exported, but is of a kind that is read"
    with pytest.raises(ArtefactError, match=expected):
        load(copy)
    if not name.endswith(("model.safetensors", "adapter_config.json")):
        with pytest.raises(ArtefactError, match=expected):
            serve(copy, {})


def test_a_tokenizer_put_beside_an_artefact_without_one_is_refused(copy):
    content = (copy / "tokenizer.json").read_bytes()
    (copy / "tokenizer.json").unlink()
    reseal(copy)
    load(copy)
    (copy / "tokenizer.json").write_bytes(content)
    with pytest.raises(ArtefactError, match=r"tokenizer\.json: was not exported"):
        serve(copy, {})


def test_prose_and_hidden_files_may_lie_beside_it(copy):
    for name in ("README.md", "LICENSE", ".gitattributes", "picture.png"):
        (copy / name).write_text("{}")
    (copy / ".cache").mkdir()
    (copy / ".cache" / "download.json").write_text("{}")
    load(copy)


@pytest.mark.parametrize("files", [{}, None, [], "all"])
def test_an_artefact_that_seals_no_file_is_refused(copy, files):
    reseal(copy, lambda values: values.update(files=files))
    with pytest.raises(ArtefactError, match="its manifest cannot be used: files: expected"):
        load(copy)


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors.index.json", "experiment_cfg/metadata.json"]
)
def test_a_file_that_is_left_out_of_the_seals_is_refused(copy, name):
    reseal(copy, lambda values: values["files"].pop(name))
    with pytest.raises(ArtefactError, match=rf"{name}: was not exported"):
        load(copy)


# Paths


@pytest.mark.parametrize(
    "name", ["../outside.safetensors", "/outside.safetensors", "a/../b.json", "./a", "a//b", "", "."]
)
def test_a_sealed_path_that_leads_out_of_the_folder_is_refused(copy, name):
    def add(values: dict[str, Any]) -> None:
        values["files"][name] = {"bytes": 0, "sha256": "0" * 64}

    reseal(copy, add)
    with pytest.raises(ArtefactError, match=r"files: .* leads out of the folder"):
        load(copy)


@pytest.mark.parametrize("shard", ["../outside.safetensors", "{absolute}", "sub/outside.safetensors"])
def test_an_index_that_names_a_shard_elsewhere_is_refused(copy, shard):
    outside = copy.parent / "outside.safetensors"
    shutil.copyfile(copy / "model-00001-of-00001.safetensors", outside)
    (copy / "sub").mkdir()
    shutil.copyfile(outside, copy / "sub" / "outside.safetensors")
    index = copy / "model.safetensors.index.json"
    text = index.read_text().replace("model-00001-of-00001.safetensors", shard.format(absolute=outside))
    index.write_text(text)
    reseal(copy)
    with pytest.raises((ArtefactError, CheckpointError), match="outside"):
        load(copy)


def test_a_link_out_of_the_folder_is_refused_and_the_hubs_own_are_followed(copy, tmp_path):
    outside = tmp_path / "shard"
    shard = copy / "model-00001-of-00001.safetensors"
    shard.rename(outside)
    shard.symlink_to(outside)
    with pytest.raises(ArtefactError, match=r"model-00001-of-00001\.safetensors: leads out of the folder"):
        load(copy)
    hub = tmp_path / "models--a--b"
    (hub / "blobs").mkdir(parents=True)
    outside.rename(hub / "blobs" / "abc")
    shard.unlink()
    snapshot = shutil.copytree(copy, hub / "snapshots" / "0123")
    (snapshot / shard.name).symlink_to(Path("../../blobs/abc"))
    load(snapshot)


@pytest.mark.parametrize("how", ["directory", "loop", "dangling", "fifo"])
@pytest.mark.parametrize("name", [FILE, SIDECAR, "model-00001-of-00001.safetensors"])
def test_something_else_in_place_of_a_file_is_refused(copy, how, name):
    path = copy / name
    path.unlink()
    if how == "directory":
        path.mkdir()
    elif how == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(path if how == "loop" else "nowhere")
    with pytest.raises(ArtefactError, match=name):
        load(copy)


# Values under hashes of their own


def _changed(
    name: str, change: Callable[[torch.Tensor], torch.Tensor]
) -> Callable[[dict[str, torch.Tensor]], None]:
    def apply(tensors: dict[str, torch.Tensor]) -> None:
        tensors[f"{LAYER}.{name}"] = change(tensors[f"{LAYER}.{name}"]).contiguous()

    return apply


FORGED = {
    "zeroed codes": ("codes", torch.zeros_like, "codes: .* use less than the range"),
    "nan scales": ("row_scale", lambda t: t * torch.nan, "hold inf or NaN"),
    "negative scales": ("row_scale", lambda t: -t, "row_scale: 128 of 128 values are not finite and above"),
    "rotations times 1000": ("rotation_in", lambda t: t * 1000, "rotation_in: not orthogonal"),
    "zero permutation": ("perm", torch.zeros_like, "perm: no permutation of 128 channels"),
    "negative permutation": ("perm", lambda t: -t, "perm: no permutation of 128 channels"),
    "smoothing of 0": ("smoothing", torch.zeros_like, "smoothing: 128 of 128 values"),
    "activation scales of 0": ("act_scale", torch.zeros_like, "act_scale: 128 of 128 values"),
    "one activation scale of 1e30": (
        "act_scale",
        lambda t: t.index_fill(0, torch.tensor([3]), 1e30),
        "act_scale: from",
    ),
    "a flag of 2": (
        "calibrated",
        lambda t: torch.tensor(2, dtype=torch.uint8).view(torch.bool),
        "calibrated: neither",
    ),
    "not calibrated": ("calibrated", torch.zeros_like, "act_scale: not 1 although no scales are fixed"),
    "another shape": ("perm", lambda t: t[:-1], "wrong shape: .*perm"),
    "another kind": ("codes", lambda t: t.float(), "wrong dtype: .*codes"),
}


@pytest.mark.parametrize(("name", "change", "message"), FORGED.values(), ids=FORGED)
def test_values_that_no_export_writes_are_refused_whatever_their_hashes(copy, name, change, message):
    reseal(copy, change_tensors=_changed(name, change))
    with pytest.raises((ArtefactError, CheckpointError), match=message):
        load(copy)


@pytest.mark.parametrize("name", ["codes", "perm"])
def test_a_tensor_that_is_missing_is_named(copy, name):
    reseal(copy, change_tensors=lambda tensors: tensors.pop(f"{LAYER}.{name}"))
    with pytest.raises((ArtefactError, CheckpointError), match=rf"q_proj\.{name}"):
        load(copy)


def test_a_damaged_layer_is_not_exported(sealed):
    model = load(sealed)
    manifest = read_manifest(sealed)
    layers = dict(model.named_modules())
    report = place_layers(
        GR00T_N1_5.on_meta(model.config), manifest, manifest.config({}), module_aliases(model)
    )
    report.layers = {name: layers[name] for name in manifest.layers}
    check_exportable(report)
    name = next(iter(report.layers))
    report.layers[name].row_scale[0] = -1
    with pytest.raises(ArtefactError, match=rf"{name}: damaged: row_scale: 1 of"):
        check_exportable(report)


# Settings and types


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"block_in": 0}, "block_in=0: expected a whole number from 1 to 4096"),
        ({"block_in": -16}, "block_in=-16: expected a whole number"),
        ({"block_in": "16"}, "block_in='16': expected a whole number"),
        ({"block_in": True}, "block_in=True: expected a whole number"),
        ({"block_in": 10**30}, "block_in=10000.*: expected a whole number"),
        ({"block_in": 32}, "contradicts itself: the layer has block_in=32, its settings say 16"),
        ({"weight": {"bits": 8}}, "contradicts itself: the layer has weight="),
        ({"activation": None}, "calibration_steps=2: activations in floating point have no scales"),
        ({"smoothing": 0.25}, "contradicts itself: the layer has smoothing=0.25, its settings say 0.5"),
        ({"informed": False}, "smoothing"),
        ({"in_features": 64}, r"has a layer .*q_proj \(128, 64\), the architecture a Linear \(128, 128\)"),
        ({"more": 1}, "expected an object with"),
    ],
)
def test_a_layer_that_is_not_what_its_tensors_and_settings_say_is_refused(copy, change, message):
    def apply(values: dict[str, Any]) -> None:
        next(iter(values["layers"].values())).update(change)

    reseal(copy, apply)
    with pytest.raises((ArtefactError, CheckpointError), match=message):
        load(copy)


def test_settings_that_no_variable_allows_are_refused(copy):
    reseal(copy, lambda values: values["settings"].update(GR00T_DUQUANT_BLOCK="-1"))
    with pytest.raises(ArtefactError, match=r"settings: bad DuQuant settings\n  GR00T_DUQUANT_BLOCK='-1'"):
        load(copy)


STRANGE = [None, -1, 0, 1.5, True, "text", "x" * 5000, [], {}, [[]], {"a": None}, 10**400, 2**62]


def _places(values: Any) -> Iterator[tuple[str, ...]]:
    """Paths to everything in a manifest, of the first layer and the first file alone."""
    for name, value in values.items():
        yield (name,)
        if isinstance(value, dict):
            inner = list(value.items())[:1] if name in ("layers", "files") else list(value.items())
            for key, below in inner:
                yield (name, key)
                if isinstance(below, dict):
                    yield from ((name, key, field) for field in below)


def test_whatever_type_a_field_of_the_manifest_has_it_is_accepted_or_one_clear_error(copy):
    """Fields times values; oracle: `read_manifest` and `place_layers` raise ArtefactError, or nothing."""
    config = Gr00tConfig.from_folder(copy)
    model = GR00T_N1_5.on_meta(config)
    aliases = module_aliases(model)
    original = json.loads((copy / SIDECAR).read_text())["content"]
    accepted: set[str] = set()
    count = 0
    for place, value in itertools.product(list(_places(original)), STRANGE):
        values = json.loads(json.dumps(original))
        *above, last = place
        inner = values
        for key in above:
            inner = inner[key]
        if inner[last] == value and type(inner[last]) is type(value):
            continue
        inner[last] = value
        count += 1
        write_sidecar(copy, "artefact", values)
        try:
            manifest = read_manifest(copy)
            place_layers(GR00T_N1_5.on_meta(config), manifest, manifest.config({}), aliases)
        except ArtefactError:
            continue
        accepted.add(place[-1] if place[0] == "layers" else place[0])
    assert count > 400
    # Names and notes that nothing depends on, byte counts of what the model was, and what the tensors refute.
    assert accepted <= {
        "checkpoint",
        "versions",
        "calibration",
        "linear_bytes_before",
        "model_bytes_before",
        "files",
        "settings",
        "informed",
        "absorbs",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"damaged \("),
        ("[]", "its format is None"),
        ("null", "its format is None"),
        ("{", r"damaged \("),
        ('{"a": NaN}', "NaN is no number of JSON"),
        ('{"format": "a", "format": "b"}', "an object has two entries 'format'"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_sidecar_that_is_no_such_object_is_refused(copy, text, message):
    (copy / SIDECAR).write_text(text)
    with pytest.raises(ArtefactError, match=rf"duquant\.json: .*{message}"):
        load(copy)


@pytest.mark.parametrize("content", [{}, {"files": {}}, {"nested": [[]]}])
def test_a_manifest_of_other_fields_is_refused(copy, content):
    write_sidecar(copy, "artefact", content)
    with pytest.raises(ArtefactError, match="its manifest cannot be used: missing or unknown: "):
        load(copy)
