"""PACKDIR: a second start computes nothing; the stale or broken is rebuilt and said; none is half written."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import multiprocessing
import os
import shutil
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from gr00t.quantization import duquant_layers, weight_codes
from gr00t.quantization.calibration.layer_calibration import LayerCalibration
from gr00t.quantization.calibration.observers import PooledPercentile
from gr00t.quantization.checkpoint import pack_folder, packs
from gr00t.quantization.checkpoint.packs import PackStore
from gr00t.quantization.checkpoint.sidecar import SIDECAR, read_sidecar, write_sidecar
from gr00t.quantization.checkpoint.tensor_file import hash_all
from gr00t.quantization.numerics.statistics import InputRecorder, InputStatistics
from gr00t.quantization.settings.spec import IntFormat, LinearSpec

SPEC = LinearSpec(64, 32)


def linear(seed: int = 0) -> nn.Linear:
    layer = nn.Linear(64, 32, bias=False).requires_grad_(False)
    layer.weight.copy_(torch.randn(32, 64, generator=torch.Generator().manual_seed(seed)))
    return layer


X = torch.randn(5, 64, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO)
    return caplog


def forbid_quantizing(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a weight was quantized though its pack fits")

    monkeypatch.setattr(weight_codes, "quantize_weight", refuse)
    monkeypatch.setattr(duquant_layers.Transforms, "choose", refuse)


def test_the_second_start_quantizes_nothing_and_gives_the_same_bits(tmp_path, monkeypatch):
    first = PackStore(tmp_path / "new" / "folder").layer("a.q_proj", linear(), SPEC)
    forbid_quantizing(monkeypatch)
    store = PackStore(tmp_path / "new" / "folder")
    second = store.layer("a.q_proj", linear(), SPEC)
    assert store.restored == 1
    assert torch.equal(first(X), second(X))
    beside = tmp_path / "written by others"
    beside.touch()
    assert (tmp_path / "new/folder/a.q_proj.safetensors").stat().st_mode == beside.stat().st_mode


def test_another_weight_or_other_settings_rebuild_and_say_so(tmp_path, log):
    PackStore(tmp_path).layer("a", linear(), SPEC)
    store = PackStore(tmp_path)
    rebuilt = store.layer("a", linear(seed=2), SPEC)
    assert log.messages == ["[GR00T-DUQUANT] Pack of a is for another weight; rebuilt"]
    assert torch.equal(rebuilt(X), duquant_layers.DuQuantLinear.from_linear(linear(seed=2), SPEC)(X))
    store.layer("a", linear(), LinearSpec(64, 32, weight=IntFormat(8)))
    assert log.messages[1] == (
        "[GR00T-DUQUANT] Pack of a is for another weight and other settings (weight bits 4, not 8); rebuilt"
    )
    assert store.restored == 0


def test_a_truncated_pack_is_rebuilt(tmp_path, log):
    PackStore(tmp_path).layer("a", linear(), SPEC)
    path = tmp_path / "a.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    PackStore(tmp_path).layer("a", linear(), SPEC)
    assert len(log.messages) == 1
    assert log.messages[0].startswith("[GR00T-DUQUANT] Pack of a cannot be read (")
    store = PackStore(tmp_path)
    store.layer("a", linear(), SPEC)
    assert store.restored == 1


def test_a_folder_that_cannot_be_written_is_said_once_and_the_model_is_quantized_all_the_same(tmp_path, log):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    store = PackStore(blocked)
    for name in ("a", "b"):
        assert torch.isfinite(store.layer(name, linear(), SPEC)(X)).all()
    assert len(log.messages) == 1
    assert log.messages[0].startswith(f"[GR00T-DUQUANT] PACKDIR {blocked} cannot be written (")


def test_static_scales_are_kept_once_they_are_fixed(tmp_path):
    spec = LinearSpec(64, 32, calibration_steps=1)
    store = PackStore(tmp_path)
    layer = store.layer("a", linear(), spec)
    assert PackStore(tmp_path).layer("a", linear(), spec).is_calibrating
    calibration = LayerCalibration(layer, PooledPercentile(99.9, 1))
    layer(X)
    calibration.finish()
    store.update("a", layer)
    again = PackStore(tmp_path).layer("a", linear(), spec)
    assert not again.is_calibrating
    assert torch.equal(again(X), layer(X))


# What is damaged


def statistics(seed: int = 5) -> InputStatistics:
    recorder = InputRecorder(64)
    recorder.observe(torch.randn(40, 64, generator=torch.Generator().manual_seed(seed)))
    return recorder.result()


def rewrite(path: Path, *, resealed: bool, **changed: torch.Tensor) -> None:
    """Write a pack with other tensors; `resealed`: with the hashes of those, as only this project does."""
    tensors = {**load_file(path), **changed}
    save_file(tensors, path, {"format": "pt"})
    if resealed:
        recorded, state = packs._split(tensors)
        said = read_sidecar(path.parent, "packs")
        said["layers"][path.stem] |= {
            "state_sha256": hash_all(state),
            "statistics_sha256": hash_all(recorded),
        }
        write_sidecar(path.parent, "packs", said)


def damaged(tensors: dict[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    rotation, perm, scale = tensors["rotation_in"], tensors["perm"], tensors["row_scale"]
    codes = tensors["codes"].clone()
    codes.view(-1)[:512] = 0
    return {
        "zeroed codes": {"codes": codes},
        "zeros as permutation": {"perm": torch.zeros_like(perm)},
        "doubled rotation": {"rotation_in": rotation * 2},
        "nan scales": {"row_scale": scale * torch.nan},
        "negative scales": {"row_scale": -scale},
    }


@pytest.mark.parametrize("resealed", [False, True])
@pytest.mark.parametrize(
    "kind", ["zeroed codes", "zeros as permutation", "doubled rotation", "nan scales", "negative scales"]
)
def test_damaged_values_are_rebuilt_even_under_a_hash_of_their_own(tmp_path, log, kind, resealed):
    expected = PackStore(tmp_path).layer("a", linear(), SPEC)
    path = tmp_path / "a.safetensors"
    rewrite(path, resealed=resealed, **damaged(load_file(path))[kind])
    store = PackStore(tmp_path)
    assert torch.equal(store.layer("a", linear(), SPEC)(X), expected(X))
    assert store.restored == 0
    why = "cannot be used (" if resealed else "is damaged (its data are not those written); rebuilt"
    assert len(log.messages) == 1
    assert log.messages[0].startswith(f"[GR00T-DUQUANT] Pack of a {why}")
    again = PackStore(tmp_path)
    again.layer("a", linear(), SPEC)
    assert again.restored == 1


def test_damaged_data_are_rebuilt_by_the_statistics_that_are_whole(tmp_path, log):
    spec = dataclasses.replace(SPEC, smoothing=0.5)
    expected = PackStore(tmp_path).layer("a", linear(), spec, statistics())
    path = tmp_path / "a.safetensors"
    rewrite(path, resealed=False, row_scale=load_file(path)["row_scale"] * 2)
    rebuilt = PackStore(tmp_path).layer("a", linear(), spec)
    assert rebuilt.spec.informed
    assert torch.equal(rebuilt(X), expected(X))
    assert log.messages == ["[GR00T-DUQUANT] Pack of a is damaged (its data are not those written); rebuilt"]


@pytest.mark.parametrize(
    ("resealed", "why"),
    [
        (False, "is damaged (the statistics in it are not those written)"),
        (True, "cannot be used (statistics.peak: it holds inf or nan)"),
    ],
)
def test_damaged_statistics_are_not_used(tmp_path, log, resealed, why):
    PackStore(tmp_path).layer("a", linear(), SPEC, statistics())
    rewrite(
        tmp_path / "a.safetensors", resealed=resealed, **{"statistics.peak": torch.full((64,), torch.nan)}
    )
    rebuilt = PackStore(tmp_path).layer("a", linear(), SPEC)
    assert not rebuilt.spec.informed
    assert torch.equal(rebuilt(X), duquant_layers.DuQuantLinear.from_linear(linear(), SPEC)(X))
    assert log.messages == [f"[GR00T-DUQUANT] Pack of a {why}; rebuilt"]


def test_a_pack_of_the_old_format_which_had_no_hash_of_its_data_is_rebuilt(tmp_path, log):
    PackStore(tmp_path).layer("a", linear(), SPEC)
    path = tmp_path / "a.safetensors"
    save_file(load_file(path), path, {"format": "duquant-pack 1"})
    (tmp_path / SIDECAR).unlink()
    PackStore(tmp_path).layer("a", linear(), SPEC)
    assert log.messages == [
        "[GR00T-DUQUANT] Pack of a cannot be read (its format is 'duquant-pack 1', this version writes "
        "'gr00t-duquant 2'); rebuilt"
    ]


def _spoil(path: Path, how: str) -> None:
    whole = path.read_bytes()
    path.unlink()
    if how == "cut in the header":
        path.write_bytes(whole[:100])
    elif how == "too long":
        path.write_bytes(whole + b"!")
    elif how == "deep":
        path.write_bytes((100_000).to_bytes(8, "little") + b"[" * 100_000)
    elif how == "gigabytes of holes":
        entry = b'{"a":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}' % (1 << 36, 1 << 36)
        path.write_bytes(len(entry).to_bytes(8, "little") + entry)
        with contextlib.suppress(OSError):  # file systems have limits, and then it is too short
            os.truncate(path, 8 + len(entry) + (1 << 36))
    elif how == "another dtype":
        path.write_bytes(whole.replace(b'"I32"', b'"F4" ', 1))
    elif how == "a dtype of no pack":
        path.write_bytes(whole.replace(b'"I32"', b'"U32"', 1))
    elif how == "zeros":
        path.write_bytes(whole[:-1024] + bytes(1024))
    elif how == "empty":
        path.touch()
    elif how == "directory":
        path.mkdir()
    elif how == "symlink loop":
        path.symlink_to(path)
    elif how == "dangling symlink":
        path.symlink_to(path.with_name("nowhere"))
    elif how == "fifo":
        os.mkfifo(path)
    elif how == "device":
        path.symlink_to("/dev/zero")
    elif how == "unreadable":
        path.write_bytes(whole)
        path.chmod(0)


IN_ITS_PLACE = ["gigabytes of holes", "cut in the header", "too long", "deep", "another dtype"]
IN_ITS_PLACE += ["a dtype of no pack", "zeros", "empty", "directory"]
IN_ITS_PLACE += ["symlink loop", "dangling symlink", "fifo", "device", "unreadable"]


@pytest.mark.parametrize("how", IN_ITS_PLACE)
def test_whatever_lies_in_place_of_a_pack_is_one_line_in_the_log_and_rebuilt(tmp_path, log, how, monkeypatch):
    expected = PackStore(tmp_path).layer("a", linear(), SPEC)
    _spoil(tmp_path / "a.safetensors", how)
    store = PackStore(tmp_path)
    with monkeypatch.context() as patched:
        if how == "unreadable":  # to the superuser, too

            def refuse(path: Path) -> None:
                raise PermissionError(13, "Permission denied", str(path))

            patched.setattr(pack_folder, "read_tensors", refuse)
        assert torch.equal(store.layer("a", linear(), SPEC)(X), expected(X))
    store.layer("b", linear(), SPEC)
    said = [line for line in log.messages if "Pack of a" in line and line.endswith("; rebuilt")]
    assert len(said) == 1
    assert len(log.messages) == 1 + (how == "directory")  # which no file can replace, as is said, too
    again = PackStore(tmp_path)
    for name in ("a", "b"):
        again.layer(name, linear(), SPEC)
    assert again.restored == (1 if how == "directory" else 2)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_pack_that_is_written_over_or_cut_does_not_reach_the_layer(tmp_path):
    """A mapped layer changed under its server's feet, and died by SIGBUS where the file was cut."""
    PackStore(tmp_path).layer("a", linear(), SPEC)
    layer = PackStore(tmp_path).layer("a", linear(), SPEC)
    expected = layer(X)
    path = tmp_path / "a.safetensors"
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
        file.truncate(10)
    assert torch.equal(layer(X), expected)


# Static scales that are fixed later


def fixed(store: PackStore, spec: LinearSpec) -> duquant_layers.DuQuantLinear:
    layer = store.layer("a", linear(), spec)
    calibration = LayerCalibration(layer, PooledPercentile(99.9, 1))
    layer(X)
    calibration.finish()
    return layer


def test_static_scales_never_seal_a_pack_that_was_damaged_meanwhile(tmp_path, log):
    spec = LinearSpec(64, 32, calibration_steps=1)
    store = PackStore(tmp_path)
    layer = fixed(store, spec)
    path = tmp_path / "a.safetensors"
    rewrite(path, resealed=False, perm=torch.zeros(64, dtype=torch.int32))
    before = path.read_bytes()
    store.update("a", layer)
    assert path.read_bytes() == before
    assert log.messages == [
        "[GR00T-DUQUANT] Pack of a is damaged (its data are not those written); its static scales are not "
        "kept"
    ]


def test_static_scales_are_not_written_into_a_pack_of_other_settings(tmp_path, log):
    """Two servers share the folder: the second one's settings would stand over the first one's scales."""
    spec = LinearSpec(64, 32, calibration_steps=1)
    first = PackStore(tmp_path)
    layer = fixed(first, spec)
    PackStore(tmp_path).layer("a", linear(), dataclasses.replace(spec, block_in=32, block_out=32))
    before = (tmp_path / "a.safetensors").read_bytes()
    first.update("a", layer)
    assert (tmp_path / "a.safetensors").read_bytes() == before
    why = "(block_in 32, not 16; block_out 32, not 16); its static scales are not kept"
    assert log.messages[-1] == f"[GR00T-DUQUANT] Pack of a is for other settings {why}"


def test_a_layer_that_was_damaged_in_memory_is_not_written(tmp_path, log):
    store = PackStore(tmp_path)
    layer = fixed(store, LinearSpec(64, 32, calibration_steps=1))
    layer.row_scale[3] = torch.nan
    before = (tmp_path / "a.safetensors").read_bytes()
    store.update("a", layer)
    assert (tmp_path / "a.safetensors").read_bytes() == before
    assert "the layer is damaged (row_scale: 1 of 32 values" in log.messages[-1]


# What a model was made of


def test_the_hash_of_all_layers_is_the_same_however_they_came_and_another_where_one_differs(tmp_path):
    def hashed(folder: Path | None, seeds: tuple[int, ...]) -> str | None:
        store = PackStore(folder)
        for seed in seeds:
            store.layer(f"layer{seed}", linear(seed), SPEC)
        return store.sha256

    quantized = hashed(tmp_path / "one", (1, 2))
    assert quantized == hashed(tmp_path / "one", (2, 1)) == hashed(tmp_path / "two", (1, 2))
    assert quantized == hashed(None, (1, 2))
    assert quantized != hashed(tmp_path / "two", (1, 3))


def _pack_many(folder: Path) -> None:
    torch.set_num_threads(1)
    store = PackStore(folder)
    for index in range(20):
        store.layer(f"layer{index}", linear(index), SPEC)


def test_a_killed_process_leaves_whole_packs_only(tmp_path):
    """Killed as soon as some packs are there, five times over: whatever is found afterwards can be used."""
    for kill in range(5):
        worker = multiprocessing.get_context("spawn").Process(target=_pack_many, args=(tmp_path,))
        worker.start()
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob("*.safetensors"))) < 3 * (kill + 1) and time.monotonic() < deadline:
            time.sleep(0.0005)
        worker.kill()
        worker.join(60)
        shutil.copytree(tmp_path, tmp_path.with_name(f"killed{kill}"))
        (tmp_path / "layer0.safetensors").unlink(missing_ok=True)
    for kill in range(5):
        folder = tmp_path.with_name(f"killed{kill}")
        store = PackStore(folder)
        files = {path.stem for path in folder.glob("layer*.safetensors")}
        found = files & read_sidecar(folder, "packs")["layers"].keys()
        assert len(files - found) <= 1  # the one that was killed before anything was said of it
        for index in range(20):
            layer = store.layer(f"layer{index}", linear(index), SPEC)
            assert torch.equal(layer(X), duquant_layers.DuQuantLinear.from_linear(linear(index), SPEC)(X))
        assert store.restored == len(found) > 0


def test_two_processes_may_share_a_folder(tmp_path):
    workers = [
        multiprocessing.get_context("spawn").Process(target=_pack_many, args=(tmp_path,)) for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    store = PackStore(tmp_path)
    for index in range(20):
        store.layer(f"layer{index}", linear(index), SPEC)
    assert store.restored == 20
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json"] + [".safetensors"] * 20
