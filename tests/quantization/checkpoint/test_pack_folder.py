"""What `duquant.json` does not say of a pack is not there; where it is damaged, nothing is touched.

Oracles: the layer as it was quantized, the files as they were.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from gr00t.quantization.checkpoint import pack_folder
from gr00t.quantization.checkpoint.checksums import ArtefactError
from gr00t.quantization.checkpoint.manifest import FILE
from gr00t.quantization.checkpoint.pack_folder import LostSidecarError
from gr00t.quantization.checkpoint.packs import PackStore
from gr00t.quantization.checkpoint.sidecar import SIDECAR, write_sidecar
from tests.quantization.checkpoint.test_packs import SPEC, fixed, linear, log, statistics

__all__ = ["log"]


def test_a_write_that_is_killed_before_it_is_said_leaves_no_pack(tmp_path, log, monkeypatch):
    class KilledError(BaseException):
        pass

    def kill(*args):
        raise KilledError

    PackStore(tmp_path).layer("a", linear(), SPEC)
    with monkeypatch.context() as patched:
        patched.setattr(pack_folder, "write_sidecar", kill)
        with pytest.raises(KilledError):
            PackStore(tmp_path).layer("b", linear(), SPEC)
    store = PackStore(tmp_path)
    for name in ("a", "b"):
        store.layer(name, linear(), SPEC)
    assert store.restored == 1
    assert log.messages == [
        "[GR00T-DUQUANT] Pack of b cannot be read (duquant.json says nothing of it, as after a write that "
        "did not end); rebuilt"
    ]


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("flipped", "its content is not what was written (SHA-256 differs)"),
        ("cut", "damaged ("),
        ("of neither", "is of 'neither', expected 'packs'"),
        ("no layers", "expected layers, got []"),
        ("directory", "cannot be read (no such file, or something else)"),
        ("later format", "its format is 'gr00t-duquant 3', this version reads 'gr00t-duquant 2'"),
    ],
)
@pytest.mark.parametrize("anew", [False, True])
def test_where_it_is_not_known_what_packs_are_nothing_starts_and_nothing_is_written(tmp_path, how, why, anew):
    PackStore(tmp_path).layer("a", linear(), SPEC)
    path = tmp_path / SIDECAR
    said = path.read_text()
    if how == "flipped":
        path.write_text(said.replace('"in_features": 64', '"in_features": 65'))
    elif how == "cut":
        path.write_text(said[:-100])
    elif how == "of neither":
        path.write_text(said.replace('"kind": "packs"', '"kind": "neither"'))
    elif how == "no layers":
        write_sidecar(tmp_path, "packs", {"layers": []})
    elif how == "later format":
        path.write_text(said.replace("gr00t-duquant 2", "gr00t-duquant 3"))
    else:
        path.unlink()
        path.mkdir()
    before = content(tmp_path)
    with pytest.raises(LostSidecarError) as caught:
        PackStore(tmp_path, anew=anew)
    assert str(caught.value).startswith(f"{path}")
    assert why in str(caught.value)
    assert str(caught.value).endswith(
        "bring it back from a copy, or delete it with the packs and calibrate anew"
    )
    assert content(tmp_path) == before


def content(folder: Path) -> dict[str, bytes | None]:
    return {path.name: path.read_bytes() if path.is_file() else None for path in folder.iterdir()}


def test_packs_with_recorded_inputs_of_which_nothing_is_said_any_more_are_not_written_over(tmp_path, log):
    for name in ("a", "b"):
        PackStore(tmp_path).layer(name, linear(), SPEC, statistics())
    (tmp_path / SIDECAR).unlink()
    before = content(tmp_path)
    with pytest.raises(LostSidecarError) as caught:
        PackStore(tmp_path)
    assert str(caught.value).startswith(
        f"{tmp_path / SIDECAR}: no such file, though 2 packs with recorded inputs are there, as of a, b. "
    )
    assert content(tmp_path) == before
    store = PackStore(tmp_path, anew=True)  # as a calibration that was killed there and begins again
    assert store.layer("a", linear(), SPEC, statistics()).spec.informed
    assert PackStore(tmp_path).layer("a", linear(), SPEC).spec.informed
    assert "Pack of a cannot be read (duquant.json says nothing of it, as after a wr" in log.messages[0]


def test_packs_without_recorded_inputs_of_which_nothing_is_said_are_rebuilt(tmp_path):
    """As after a first write that was killed, and beside files that are no packs."""
    PackStore(tmp_path).layer("a", linear(), SPEC)
    (tmp_path / SIDECAR).unlink()
    (tmp_path / "b.safetensors").write_bytes(b"none")
    (tmp_path / "c.safetensors").mkdir()
    again = PackStore(tmp_path)
    again.layer("a", linear(), SPEC)
    assert again.restored == 0
    store = PackStore(tmp_path)
    store.layer("a", linear(), SPEC)
    assert store.restored == 1


def test_what_is_damaged_while_layers_are_built_ends_the_start_and_not_a_server(tmp_path, log):
    spec = dataclasses.replace(SPEC, calibration_steps=1)
    store = PackStore(tmp_path)
    layer = fixed(store, spec)
    (tmp_path / SIDECAR).write_bytes((tmp_path / SIDECAR).read_bytes()[:-9])
    before = content(tmp_path)
    with pytest.raises(LostSidecarError):
        store.layer("a", linear(), spec)
    with pytest.raises(LostSidecarError):
        store.layer("b", linear(), spec)
    store.update("a", layer)
    assert len(log.messages) == 1
    assert f"The static scales of a are not kept: {tmp_path / SIDECAR}: damaged (" in log.messages[0]
    assert content(tmp_path) == before


# What was recorded is not written over by less


def spoil(path: Path) -> None:
    save_file(
        {name: value[:-1] if name == "statistics.peak" else value for name, value in load_file(path).items()},
        path,
        {"format": "pt"},
    )


@pytest.mark.parametrize("how", ["damaged statistics", "cut", "no memory", "input/output error"])
def test_a_pack_whose_recorded_inputs_cannot_be_read_is_left_as_it_is(tmp_path, monkeypatch, how):
    first = PackStore(tmp_path).layer("a", linear(), SPEC, statistics())
    path = tmp_path / "a.safetensors"
    if how == "damaged statistics":
        spoil(path)
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    before = content(tmp_path)
    store = PackStore(tmp_path)
    with monkeypatch.context() as patched:

        def fail(path: Path) -> None:
            raise MemoryError if how == "no memory" else OSError(5, "Input/output error")

        if how not in ("damaged statistics", "cut"):
            patched.setattr(pack_folder, "read_tensors", fail)
        assert not store.layer("a", linear(), SPEC).spec.informed
    assert (store.restored, store.damaged, store.kept) == (0, {"a"}, {"a"})
    assert content(tmp_path) == before
    again = PackStore(tmp_path)
    passing = how in ("no memory", "input/output error")
    assert again.layer("a", linear(), SPEC).spec.informed == passing
    assert again.restored == passing
    anew = PackStore(tmp_path)
    assert anew.layer("a", linear(), SPEC, statistics()).packed_state().keys() == first.packed_state().keys()
    last = PackStore(tmp_path)
    assert last.layer("a", linear(), SPEC).spec.informed
    assert (last.restored, last.kept) == (1, set())


def test_another_weight_takes_the_place_of_a_pack_with_recorded_inputs(tmp_path):
    PackStore(tmp_path).layer("a", linear(), SPEC, statistics())
    store = PackStore(tmp_path)
    store.layer("a", linear(seed=2), SPEC)
    assert store.kept == set()
    again = PackStore(tmp_path)
    again.layer("a", linear(seed=2), SPEC)
    assert again.restored == 1


@pytest.mark.parametrize("there", ["artefact", "damaged artefact", "artefact of version 1"])
def test_no_pack_is_written_into_an_exported_model(tmp_path, there):
    if there == "artefact of version 1":
        (tmp_path / FILE).write_bytes(b"all is said in its own header")
    else:
        write_sidecar(tmp_path, "artefact", {"layers": {}})
    if there == "damaged artefact":
        (tmp_path / SIDECAR).write_text((tmp_path / SIDECAR).read_text().replace("layers", "papers"))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ArtefactError) as caught:
        PackStore(tmp_path)
    assert str(caught.value) == (
        f"PACKDIR {tmp_path} is the folder of an exported model, which packs would damage; name another"
    )
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("entry", [None, [], {}, "text", {"spec": {}, "made_from": []}])
def test_an_entry_that_says_nothing_usable_is_rebuilt(tmp_path, log, entry):
    PackStore(tmp_path).layer("a", linear(), SPEC)
    if isinstance(entry, dict) and entry:
        entry |= {"state_sha256": "", "statistics_sha256": ""}
    write_sidecar(tmp_path, "packs", {"layers": {"a": entry}})
    store = PackStore(tmp_path)
    store.layer("a", linear(), SPEC)
    assert store.restored == 0
    assert len(log.messages) == 1
    assert "Pack of a cannot be read (duquant.json says nothing" in log.messages[0]
