"""Random bits flipped in packs and in an artefact. Oracle: the answers of what was written, bit for bit.

A flip may be harmless, for not every byte of a file means something; it may be noticed, so that a pack is
built anew and an artefact refused. It must never be a wrong answer. Some blows flip one bit, some several,
some write zeros over 4 kB or cut the file.
"""

from __future__ import annotations

import collections
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from gr00t.model.artefact import export_artefact
from gr00t.model.checkpoint.folder import CheckpointError
from gr00t.quantization import DuQuantConfig, LayerPlan, plan, quantize_
from gr00t.quantization.checkpoint.checksums import ArtefactError
from gr00t.quantization.checkpoint.pack_folder import LostSidecarError
from gr00t.quantization.checkpoint.sidecar import SIDECAR, read_sidecar, write_sidecar
from gr00t.testing.random_checkpoint import write_random_checkpoint
from tests.model.small_artefact import load, quantized, variables

# Nearly every tensor that a pack can have, and codes in both ways that they are stored in.
SETTINGS = {
    "ROTATION": "svd",
    "LS": "0.5",
    "WBITS": "second:8",
    "CALIB_STEPS": "1",
    "INCLUDE": "first|second",
}


def strike(path: Path, generator: np.random.Generator) -> str:
    """Damage a file in place; return how."""
    content = bytearray(path.read_bytes())
    how = str(generator.choice(["one bit", "one bit", "one bit", "8 bits", "4 kB of zeros", "cut"]))
    place = int(generator.integers(len(content)))
    if how == "cut":
        del content[place:]
    elif how == "4 kB of zeros":
        content[place : place + 4096] = bytes(len(content[place : place + 4096]))
    else:
        for at in [place, *generator.integers(len(content), size=7)][: 1 if how == "one bit" else 8]:
            content[int(at)] ^= 1 << int(generator.integers(8))
    path.write_bytes(content)
    return how


def table(outcomes: collections.Counter[tuple[str, str]], blows: int) -> str:
    """The outcomes by kind of blow, and how many were wrong."""
    kinds = sorted({how for how, _ in outcomes})
    rows = [
        f"{how}: " + ", ".join(f"{n} {what}" for (kind, what), n in sorted(outcomes.items()) if kind == how)
        for how in kinds
    ]
    wrong = sum(n for (_, what), n in outcomes.items() if what == "wrong")
    return f"{blows} blows, {wrong} wrong; " + "; ".join(rows)


class Pair(torch.nn.Module):
    """Two layers, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        for name in ("first", "second"):
            layer = torch.nn.Linear(48, 48, bias=False).requires_grad_(False)
            layer.weight.copy_(torch.randn(48, 48, generator=generator) / 7)
            setattr(self, name, layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x))


X = torch.randn(20, 48, generator=torch.Generator().manual_seed(4))


def start(folder: Path, statistics: bool) -> tuple[Pair, int, list[LayerPlan]]:
    """Quantize a model as a server does that finds packs in a folder; return how many layers it restored."""
    from gr00t.quantization.calibration.recording import record_inputs

    model = Pair()
    config = DuQuantConfig.from_environ(variables(PACKDIR=str(folder), **SETTINGS))
    assert config is not None
    targets = [layer for layer in plan(model, config.scheme, config.layer_filter) if layer.spec is not None]
    recorded = None
    if statistics:
        with record_inputs(model, {target.name: target.linear for target in targets}) as recording:
            model(X)
        recorded = recording.statistics()
    report = quantize_(model, config.scheme, config.layer_filter, statistics=recorded, runtime=config.runtime)
    if report.pools_requests:
        model(X)
    return model, report.packed, targets


def test_no_damage_to_a_pack_is_a_wrong_answer(
    tmp_path: Path, blows: Callable[[int, int], int], figure: Callable[[str], None], caplog
) -> None:
    """What is rebuilt answers as in a folder where that pack is gone, with or without its statistics.

    Where what is said of the packs is damaged, no model is made, and no file is touched.
    """
    caplog.set_level(logging.INFO)
    model, _, _ = start(tmp_path / "whole", statistics=True)
    expected = model(X)
    count = blows(200, 5000)
    outcomes: collections.Counter[tuple[str, str]] = collections.Counter()
    generator = np.random.default_rng(18)
    rebuilt = _rebuilt_answers(tmp_path)
    for blow in range(count):
        folder = shutil.copytree(tmp_path / "whole", tmp_path / f"struck{blow}")
        name = ("first", "second", SIDECAR)[blow % 3]
        how = strike(folder / name if name == SIDECAR else folder / f"{name}.safetensors", generator)
        caplog.clear()
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        try:
            found, packed, _ = start(folder, statistics=False)
        except LostSidecarError as error:
            untouched = before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
            right = name == SIDECAR and untouched and str(error).startswith(f"{folder / name}: ")
            outcomes[how, "refused" if right else "wrong"] += 1
            shutil.rmtree(folder)
            continue
        answer = found(X)
        said = [
            line
            for line in caplog.messages
            if line.startswith(f"[GR00T-DUQUANT] Pack of {name} ") and line.endswith("; rebuilt")
        ]
        if packed == 2 and torch.equal(answer, expected):
            outcomes[how, "harmless"] += 1
        elif (packed, len(said)) == (1, 1) and any(torch.equal(answer, known) for known in rebuilt[name]):
            outcomes[how, "rebuilt"] += 1
        else:
            outcomes[how, "wrong"] += 1
        shutil.rmtree(folder)
    figure(table(outcomes, count))
    assert sum(outcomes.values()) == count >= 200
    assert {what for _, what in outcomes} <= {"harmless", "rebuilt", "refused"}
    assert sum(n for (_, what), n in outcomes.items() if what == "rebuilt") > 0.9 * count * 2 / 3
    assert sum(n for (_, what), n in outcomes.items() if what == "refused") > 0.9 * count / 3


def _rebuilt_answers(tmp_path: Path) -> dict[str, list[torch.Tensor]]:
    """The answers that are right once a layer's pack was not used: with its statistics, and without them."""
    answers: dict[str, list[torch.Tensor]] = {}
    for name in ("first", "second"):
        answers[name] = []
        for keep_statistics in (False, True):
            folder = shutil.copytree(tmp_path / "whole", tmp_path / f"{name}{keep_statistics}")
            path = folder / f"{name}.safetensors"
            if keep_statistics:
                said = read_sidecar(folder, "packs")
                assert said is not None
                said["layers"][name]["state_sha256"] = "0" * 64
                write_sidecar(folder, "packs", said)
            else:
                path.unlink()
            answers[name].append(start(folder, statistics=False)[0](X))
    return answers


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artefact")
    checkpoint = write_random_checkpoint(folder / "checkpoint")
    model, report = quantized(checkpoint, variables(CALIB_STEPS="0", ROTATION="svd"))
    export_artefact(model, report, checkpoint, folder / "out")
    return folder / "out"


def test_no_damage_to_an_artefact_is_a_wrong_model(
    artefact: Path, tmp_path: Path, blows: Callable[[int, int], int], figure: Callable[[str], None]
) -> None:
    """Every second blow hits a file of weights; oracle: the state of the whole artefact, tensor by tensor."""
    expected = load(artefact).state_dict()
    files = sorted(path.relative_to(artefact) for path in artefact.rglob("*") if path.is_file())
    weights = [name for name in files if name.suffix == ".safetensors"]
    assert len(weights) == 2
    count = blows(60, 1000)
    outcomes: collections.Counter[tuple[str, str]] = collections.Counter()
    generator = np.random.default_rng(19)
    folder = shutil.copytree(artefact, tmp_path / "struck")
    for blow in range(count):
        name = weights[blow // 2 % 2] if blow % 2 else files[blow // 2 % len(files)]
        how = strike(folder / name, generator)
        try:
            model = load(folder)
        except (ArtefactError, CheckpointError) as error:
            outcomes[how, "refused" if str(folder) in str(error) else "refused without a name"] += 1
        else:
            found = model.state_dict()
            same = all(torch.equal(found[key], value) for key, value in expected.items())
            outcomes[how, "harmless" if same else "wrong"] += 1
        shutil.copyfile(artefact / name, folder / name)
    figure(table(outcomes, count))
    assert sum(outcomes.values()) == count >= 60
    assert {what for _, what in outcomes} <= {"harmless", "refused"}
