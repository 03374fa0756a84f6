"""PACKDIR/inputs as whoever would do harm leaves it: damaged, of another layer, absurd, or not there at all.

Oracle: the layer is then rounded to nearest, for this start alone, and a line names the file, or the start
ends with an error that names the layer; nothing waits, nothing is half done.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import struct
from pathlib import Path

import pytest
import torch

from gr00t.quantization import IntFormat, Rounding
from gr00t.quantization.checkpoint.pack_folder import INPUTS
from gr00t.quantization.checkpoint.sidecar import read_sidecar, write_sidecar
from gr00t.quantization.checkpoint.tensor_file import write_tensors
from gr00t.quantization.numerics.statistics import InputStatistics, RowsInMemory, hash_rows
from tests.quantization.test_rounding import CHANNELS, DYNAMIC, inputs, quantized, statistics

OTHER = dataclasses.replace(DYNAMIC, block=8)
ROWS = inputs(64, 0).bfloat16()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    quantized(DYNAMIC, tmp_path, statistics=statistics())
    return tmp_path


def kept(folder: Path) -> Path:
    (found,) = (folder / INPUTS).iterdir()
    return found


def with_value(value: float) -> torch.Tensor:
    rows = ROWS.clone()
    rows[3, 5] = value
    return rows


def plant(folder: Path, rows: torch.Tensor) -> Path:
    """Put rows in place of those that were kept, under seals of their own."""
    sha256 = hash_rows(rows)
    path = kept(folder).with_name(f"{sha256[:32]}.safetensors")
    write_tensors(path, {"rows": rows})
    content = read_sidecar(folder, "packs")
    assert content is not None
    content["layers"]["first"]["made_from"]["inputs"] = sha256
    write_sidecar(folder, "packs", content)
    return path


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def huge(path: Path) -> None:
    header = b'{"rows":{"dtype":"BF16","shape":[11184810,96],"data_offsets":[0,2147483520]}}'
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + 2147483520)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (cut, "truncated or no safetensors file: 100 bytes end within its header"),
        (Path.unlink, "No such file or directory"),
        (fifo, "it is no file"),
        (directory, "it is no file"),
        (huge, "2,147,483,605 bytes are too many for 96 channels"),
        (lambda path: write_tensors(path, {"rows": ROWS.float()}), "not the inputs that were recorded"),
        (lambda path: write_tensors(path, {"lines": ROWS}), "not the inputs that were recorded"),
    ],
)
def test_what_lies_in_place_of_the_inputs_is_named_and_the_layer_rounded_to_nearest(
    folder, harm, why, caplog
):
    path = kept(folder)
    harm(path)
    _, report = quantized(OTHER, folder)
    assert (report.packed, report.rounded_with_feedback) == (0, 0)
    assert (
        f"[GR00T-DUQUANT] first is rounded to nearest: its recorded inputs cannot be read ({path}: {why})"
        in caplog.messages
    )


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        (with_value(float("nan")), "they hold inf or nan"),
        (with_value(float("inf")), "they hold inf or nan"),
        (torch.ones(64, CHANNELS + 16).bfloat16(), "(64, 112) of bfloat16, expected (rows, 96) of bfloat16"),
        (ROWS[:0], "(0, 96) of bfloat16, expected (rows, 96) of bfloat16"),
    ],
)
def test_inputs_that_no_layer_of_this_kind_has_are_not_used_whatever_their_seals_say(
    folder, rows, why, caplog
):
    path = plant(folder, rows)
    _, report = quantized(OTHER, folder)
    assert report.rounded_with_feedback == 0
    assert (
        "[GR00T-DUQUANT] first is rounded to nearest: its recorded inputs cannot be read "
        f"({path}: inputs to round by: {why})"
    ) in caplog.messages


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        (with_value(float("nan")), r"inputs to round by: they hold inf or nan"),
        (with_value(1e30), r"inputs to round by hold inf or nan, or numbers whose squares are too large"),
        (torch.ones(64, 16).bfloat16(), r"inputs to round by: \(64, 16\) of bfloat16, expected \(rows, 96\)"),
        (torch.ones(CHANNELS).bfloat16(), r"inputs to round by: \(96,\) of bfloat16, expected \(rows, 96\)"),
        (ROWS.float(), r"inputs to round by: \(64, 96\) of float32, expected \(rows, 96\) of bfloat16"),
    ],
)
def test_inputs_that_are_handed_over_and_cannot_be_used_are_an_error_that_names_the_layer(rows, why):
    given = statistics()["first"]._replace(inputs=RowsInMemory.__new__(RowsInMemory))
    given.inputs._rows, given.inputs.sha256 = rows, "0" * 64
    with pytest.raises(ValueError, match=rf"^first cannot be quantized: {why}"):
        quantized(DYNAMIC, statistics={"first": given})


def test_statistics_of_another_model_are_an_error_that_names_the_layer():
    other = InputStatistics(torch.ones(64), torch.zeros(32, 64).bfloat16())
    with pytest.raises(
        ValueError, match=r"first cannot be quantized: statistics.peak: \(64,\) of float32, exp"
    ):
        quantized(DYNAMIC, statistics={"first": other})


def test_inputs_recorded_for_another_checkpoint_are_not_used(folder, caplog, monkeypatch):
    monkeypatch.setattr("tests.quantization.test_rounding.source", lambda: other)
    caplog.set_level("INFO")
    other = torch.nn.Linear(CHANNELS, 48).requires_grad_(False)
    _, report = quantized(DYNAMIC, folder)
    assert (report.packed, report.informed, report.rounded_with_feedback) == (0, 0, 0)
    assert (
        "[GR00T-DUQUANT] Pack of first is for another weight and other settings (informed True, not False; "
        "rounding 'feedback', not 'nearest'; statistics; inputs); rebuilt"
    ) in caplog.messages
    assert (
        "[GR00T-DUQUANT] Weights rounded to nearest in 1 layers, of whose inputs no rows were recorded"
        in caplog.messages
    )


def test_starts_without_the_inputs_leave_what_a_calibration_has_made(folder, caplog):
    """Oracle: the answers of then. Each start that cannot read them says so, by a warning."""
    caplog.set_level(logging.INFO)
    answer = quantized(DYNAMIC, folder)[0](inputs(5, 3))
    other = quantized(OTHER, statistics=statistics())[0](inputs(5, 3))
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    away = (folder / INPUTS).rename(folder / "away")
    for _ in range(2):
        caplog.clear()
        _, report = quantized(OTHER, folder)
        assert (report.packed, report.rounded_with_feedback) == (0, 0)
        warned = [record.message for record in caplog.records if record.levelno == logging.WARNING]
        assert warned[1:] == [
            "[GR00T-DUQUANT] Weights rounded to nearest in 1 layers: what was recorded of the inputs of 1 of "
            "these (first) cannot be read; their packs stay as they are"
        ]
        assert warned[0].startswith("[GR00T-DUQUANT] first is rounded to nearest: its recorded inputs cannot")
        assert not any("no rows were recorded" in line for line in caplog.messages)
        assert {path: path.read_bytes() for path in before} == before
    caplog.clear()
    net, report = quantized(DYNAMIC, folder)
    assert (report.packed, report.rounded_with_feedback) == (1, 1)
    assert torch.equal(net(inputs(5, 3)), answer)
    assert all(record.levelno == logging.INFO for record in caplog.records)
    away.rename(folder / INPUTS)
    net, report = quantized(OTHER, folder)
    assert report.rounded_with_feedback == 1
    assert torch.equal(net(inputs(5, 3)), other)
    assert quantized(OTHER, folder)[1].packed == 1


def test_settings_that_round_to_nearest_are_written_with_what_is_known_of_the_inputs(folder):
    """As before: nobody has asked for feedback, so nothing is lost by it."""
    nearest = dataclasses.replace(DYNAMIC, rounding=Rounding.NEAREST)
    kept(folder).unlink()
    quantized(nearest, folder)
    _, report = quantized(nearest, folder)
    assert (report.packed, report.rounded_with_feedback) == (1, 0)


def test_damaged_inputs_are_written_anew_when_they_are_recorded_again(folder):
    whole = kept(folder).read_bytes()
    cut(kept(folder))
    quantized(DYNAMIC, folder, statistics=statistics())
    assert kept(folder).read_bytes() == whole
    _, report = quantized(OTHER, folder)
    assert report.rounded_with_feedback == 1


def test_a_server_whose_inputs_are_lost_before_it_has_its_scales_answers_on_and_says_so(tmp_path, caplog):
    static = dataclasses.replace(DYNAMIC, calibration_steps=2, weight=IntFormat(3))
    quantized(static, tmp_path, statistics=statistics())
    net, report = quantized(static, tmp_path)
    path = kept(tmp_path)
    path.unlink()
    answers = [net(inputs(64, 0)) for _ in range(3)]
    assert torch.equal(answers[1], answers[2])
    assert not report.pools_requests
    assert report.to_dict()["layers"]["first"]["activation_scale"] == "dynamic per token until calibrated"
    assert (
        "[GR00T-DUQUANT] first keeps dynamic scales: its recorded inputs cannot be read "
        f"({path}: No such file or directory)"
    ) in caplog.messages
