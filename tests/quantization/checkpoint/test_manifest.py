"""The file of an artefact. Oracles: what was written, byte by byte; and the settings it was exported by."""

from __future__ import annotations

import dataclasses
import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gr00t.quantization.checkpoint.checksums import ArtefactError, checksum
from gr00t.quantization.checkpoint.manifest import FILE, Manifest, exported_settings, read_manifest
from gr00t.quantization.checkpoint.sidecar import SIDECAR
from gr00t.quantization.checkpoint.tensor_file import write_tensors
from gr00t.quantization.settings.environment import DuQuantConfig, DuQuantConfigError
from gr00t.quantization.settings.options import Execution, Rotation, RowRotation, WeightScale
from gr00t.quantization.settings.spec import IntFormat, LinearSpec

SPECS = {
    "a.q_proj": LinearSpec(64, 32, smoothing=0.5, informed=True),
    "a.up_proj": LinearSpec(
        24,
        8,
        weight=None,
        activation=IntFormat(6),
        block_in=8,
        weight_scale=WeightScale.CHANNEL,
        permute=False,
        rotation=Rotation.SVD,
        row_rotation=RowRotation.PROPAGATE,
        absorbs=True,
        calibration_steps=3,
        act_percentile=99.5,
    ),
    "b.q_proj": LinearSpec(64, 32, activation=None, rotation=Rotation.NONE, row_rotation=RowRotation.NONE),
}
TENSORS = {
    "a.q_proj.codes": torch.arange(6, dtype=torch.uint8).reshape(2, 3),
    "a.q_proj.row_scale": torch.tensor([[0.5], [2.0]]),
    "a.q_proj.calibrated": torch.tensor(True),
    "a.q_proj.bias": torch.ones(5, dtype=torch.bfloat16),
}


def config(**variables: str) -> DuQuantConfig:
    found = DuQuantConfig.from_environ(environ(**variables))
    assert found is not None
    return found


def environ(**variables: str) -> dict[str, str]:
    return {f"GR00T_DUQUANT_{name}": text for name, text in variables.items()}


EXPORTED = config(ABITS="16", BLOCK="8", LS="0.5", WBITS="a.q_proj:8", INCLUDE="proj", PACKDIR="p", DEBUG="1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An artefact of one tensor file and one other file."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "metadata.json").write_text("{}")
    write_tensors(tmp_path / FILE, TENSORS)
    manifest(tmp_path).write(tmp_path)
    return tmp_path


def manifest(folder: Path) -> Manifest:
    return Manifest(
        checkpoint="somebody/a-policy",
        dtype="bfloat16",
        settings=exported_settings(EXPORTED),
        layers=SPECS,
        calibration={"requests": 32, "source": {"init_states_by_task": {"3": [49, 48]}}},
        linear_bytes_before=100,
        model_bytes_before=1000,
        versions={"gr00t": "1"},
        files={name: checksum(folder / name) for name in (FILE, "sub/metadata.json")},
    )


def load(folder: Path) -> Manifest:
    """Read and check everything, as loading a model does."""
    found = read_manifest(folder)
    assert found is not None
    found.check_files(folder)
    return found


# What is written is read back


def test_manifest_and_tensors_are_read_back_as_they_were(folder):
    found = load(folder)
    assert found == manifest(folder)
    assert list(found.layers) == list(SPECS)
    tensors = load_file(folder / FILE)
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], value) for name, value in TENSORS.items())
    assert {value.dtype for value in tensors.values()} == {value.dtype for value in TENSORS.values()}


def test_tensors_start_at_a_cache_line(folder):
    assert (8 + struct.unpack("<Q", (folder / FILE).read_bytes()[:8])[0]) % 64 == 0


def test_a_folder_without_the_file_is_no_artefact(tmp_path):
    assert read_manifest(tmp_path) is None


def test_reading_a_manifest_imports_no_torch():
    module = "gr00t.quantization.checkpoint.manifest"
    code = f"import sys, {module}; print(sorted({{'torch', 'numpy'}} & {{*sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# What is damaged is refused


@pytest.mark.parametrize("name", [FILE, SIDECAR])
def test_a_single_changed_byte_is_noticed_wherever_it_is(folder, name):
    whole = (folder / name).read_bytes().rstrip()
    assert 300 < len(whole) < 8000
    places = {*range(120), *range(120, len(whole) - 120, 7), *range(len(whole) - 120, len(whole))}
    unnoticed = []
    for place in sorted(places):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        (folder / name).write_bytes(damaged)
        try:
            load(folder)
        except ArtefactError:
            continue
        unnoticed.append(place)
    assert unnoticed == []


@pytest.mark.parametrize("name", [FILE, SIDECAR])
@pytest.mark.parametrize("keep", [0, 7, 8, 300, -1])
def test_a_truncated_file_is_refused(folder, name, keep):
    whole = (folder / name).read_bytes().rstrip()
    (folder / name).write_bytes(whole[:keep])
    with pytest.raises(ArtefactError, match=rf"{name}: (\d+ bytes, exported were \d+|damaged \()"):
        load(folder)


def test_a_file_that_is_too_long_is_refused(folder):
    with (folder / FILE).open("ab") as file:
        file.write(b"!")
    with pytest.raises(ArtefactError, match=r"duquant\.safetensors: \d+ bytes, exported were \d+"):
        load(folder)


def test_layers_of_which_nothing_is_said_are_none(folder):
    (folder / SIDECAR).unlink()
    with pytest.raises(ArtefactError, match=r"nothing says what its layers are: no duquant\.json"):
        read_manifest(folder)


def test_every_other_file_that_is_missing_or_changed_is_named(folder):
    other = folder / "sub" / "metadata.json"
    other.write_text("[]")
    with pytest.raises(ArtefactError, match=r"damaged\n  sub/metadata.json: changed since it was exported"):
        load(folder)
    other.write_text("{ }")
    with pytest.raises(ArtefactError, match=r"sub/metadata.json: 3 bytes, exported were 2"):
        load(folder)
    other.unlink()
    with pytest.raises(ArtefactError, match=r"sub/metadata\.json: missing"):
        load(folder)


def rewrite(folder: Path, **changed: object) -> None:
    """Write `duquant.json` anew with other entries beside its content."""
    values = json.loads((folder / SIDECAR).read_text())
    (folder / SIDECAR).write_text(json.dumps(values | changed))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"format": "gr00t-duquant 3"},
            "its format is 'gr00t-duquant 3', this version reads 'gr00t-duquant 2'; write it anew",
        ),
        ({"format": None}, "its format is None"),
        ({"kind": "packs"}, "is of 'packs', expected 'artefact'"),
        ({"content": {}}, r"its content is not what was written \(SHA-256 differs\)"),
        ({"content": []}, r"its content is not what was written \(SHA-256 differs\)"),
        ({"sha256": "0" * 64}, r"its content is not what was written \(SHA-256 differs\)"),
    ],
)
def test_another_format_or_content_is_refused(folder, changed, message):
    rewrite(folder, **changed)
    with pytest.raises(ArtefactError, match=message):
        read_manifest(folder)


def test_what_is_too_long_to_be_one_is_not_read(folder):
    with (folder / SIDECAR).open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(ArtefactError, match=r"1,099,511,627,776 bytes, expected at most"):
        read_manifest(folder)


def test_a_manifest_that_leaves_the_layers_out_is_refused(folder):
    dataclasses.replace(
        manifest(folder), files={"sub/metadata.json": checksum(folder / "sub/metadata.json")}
    ).write(folder)
    with pytest.raises(ArtefactError, match=r"cannot be used: files: expected duquant\.safetensors among"):
        read_manifest(folder)


# What is set beside it


def test_without_any_setting_it_is_what_was_exported(folder):
    found = load(folder).config({"PATH": "x"})
    # PACKDIR and DEBUG belonged to the export; what multiplies is decided here.
    expected = {**EXPORTED.to_dict(), **environ(PACKDIR="", DEBUG="0", EXECUTION="auto")}
    assert found.to_dict() == expected


def test_what_changes_no_number_may_be_set_and_what_agrees_too(folder):
    found = load(folder).config(
        environ(
            EXECUTION="fake",
            BACKEND="torch",
            PRECACHE_WEIGHTS="0",
            DEBUG="1",
            PROFILE="1",
            PACKDIR="elsewhere",
            ENABLE="1",
            ABITS="0",
            BLOCK="8",
            BLOCK_OUT="8",
            LS="0.50",
            WBITS=" a.q_proj:8 ",
        )
    )
    assert (found.execution, found.precache_weights, found.debug) == (Execution.FAKE, False, True)
    assert found.backend == "torch"
    assert (found.profile, found.pack_dir, found.block_in) == (True, None, 8)


def test_settings_that_it_is_not_are_refused_all_at_once(folder):
    with pytest.raises(DuQuantConfigError) as error:
        load(folder).config(environ(ABITS="8", BLOCK_OUT="16", LS="0.5", INCLUDE="mlp", ENABLE="0"))
    assert str(error.value) == (
        "the artefact is not what the settings ask for\n"
        "  GR00T_DUQUANT_ENABLE=0: an artefact has no unquantized weights\n"
        "  GR00T_DUQUANT_ABITS='8': exported with '16'\n"
        "  GR00T_DUQUANT_INCLUDE='mlp': exported with 'proj'\n"
        "  GR00T_DUQUANT_BLOCK_OUT='16': exported with '8'\n"
        "Unset them, or start from the checkpoint that it was exported from: somebody/a-policy"
    )


def test_what_was_exported_before_there_was_a_variable_says_nothing_of_it(folder):
    """Oracle: what such artefacts computed: nearest rounding, and the same activation bits everywhere."""
    settings = {**exported_settings(EXPORTED)}
    for name in ("ROUNDING", "ABITS_LAYERS"):
        del settings[f"GR00T_DUQUANT_{name}"]
    old = dataclasses.replace(manifest(folder), settings=settings)
    old.write(folder)
    found = load(folder).config({})
    assert (found.rounding.value, found.act_bits_by_layer) == ("nearest", ())
    with pytest.raises(DuQuantConfigError, match=r"GR00T_DUQUANT_ABITS_LAYERS='a:6': exported with ''"):
        load(folder).config(environ(ABITS_LAYERS="a:6"))


def test_a_misspelt_variable_is_refused_beside_an_artefact_too(folder):
    with pytest.raises(DuQuantConfigError, match="did you mean GR00T_DUQUANT_ABITS"):
        load(folder).config(environ(ABIT="8"))
