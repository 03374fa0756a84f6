"""PACKDIR: a second start computes nothing; the stale or broken is rebuilt and said; none is half written."""

from __future__ import annotations

import logging
import multiprocessing
import shutil
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from gr00t.quantization import duquant_layers
from gr00t.quantization.observers import PooledPercentile
from gr00t.quantization.packs import PackStore
from gr00t.quantization.spec import IntFormat, LinearSpec

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

    monkeypatch.setattr(duquant_layers, "quantize_weight", refuse)
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
    assert log.messages[1] == "[GR00T-DUQUANT] Pack of a is for another weight and settings; rebuilt"
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
    layer.start_calibration(PooledPercentile(99.9, 1))
    layer(X)
    layer.finish_calibration()
    store.update("a", layer)
    again = PackStore(tmp_path).layer("a", linear(), spec)
    assert not again.is_calibrating
    assert torch.equal(again(X), layer(X))


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
        found = {path.stem for path in folder.glob("layer*.safetensors")}
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
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".safetensors"] * 20
