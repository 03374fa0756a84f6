"""What `duquant.json` does not say of a pack is not there. Oracle: the layer as it was quantized."""

from __future__ import annotations

import pytest
import torch

from gr00t.quantization.checkpoint import pack_folder
from gr00t.quantization.checkpoint.checksums import ArtefactError
from gr00t.quantization.checkpoint.manifest import FILE
from gr00t.quantization.checkpoint.packs import PackStore
from gr00t.quantization.checkpoint.sidecar import SIDECAR, write_sidecar
from tests.quantization.checkpoint.test_packs import SPEC, X, linear, log

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
def test_where_it_is_not_known_what_packs_are_all_are_rebuilt(tmp_path, log, how, why):
    expected = PackStore(tmp_path).layer("a", linear(), SPEC)
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
    store = PackStore(tmp_path)
    assert torch.equal(store.layer("a", linear(), SPEC)(X), expected(X))
    assert store.restored == 0
    assert f"{path}" in log.messages[0]
    assert why in log.messages[0]
    assert log.messages[0].endswith("; its packs are rebuilt")
    again = PackStore(tmp_path)
    again.layer("a", linear(), SPEC)
    assert again.restored == (how != "directory")


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
