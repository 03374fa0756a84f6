"""Rounding by recorded inputs, from the recording to the packs: who is rounded how, and what is kept for it.

Oracles: the rows that a layer was called with; the output error on inputs not seen; and what an earlier
version wrote, which must stay what it was.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn

from gr00t.quantization import (
    DuQuantConfig,
    DuQuantLinear,
    DuQuantReport,
    IntFormat,
    LinearScheme,
    LinearSpec,
    Rounding,
    RuntimeOptions,
    WeightScale,
    quantize_,
)
from gr00t.quantization.calibration.recording import record_inputs
from gr00t.quantization.checkpoint.manifest_values import spec_from_json, spec_to_json
from gr00t.quantization.checkpoint.pack_folder import INPUTS
from gr00t.quantization.numerics import hessian
from gr00t.quantization.numerics.metrics import sqnr_db
from gr00t.quantization.numerics.rotations import rotate
from gr00t.quantization.numerics.statistics import InputStatistics, RowsInMemory, draw_rows, rows_to_keep

CHANNELS = 96


def inputs(rows: int, seed: int) -> torch.Tensor:
    """Correlated: as if 12 directions made all channels."""
    mix = torch.randn(12, CHANNELS, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(rows, CHANNELS, generator=generator) / 10
    return torch.randn(rows, 12, generator=generator) @ mix + noise


def source() -> nn.Linear:
    linear = nn.Linear(CHANNELS, 48).requires_grad_(False)
    generator = torch.Generator().manual_seed(7)
    linear.weight.copy_(torch.randn(48, CHANNELS, generator=generator) / 10)
    linear.bias.zero_()
    return linear


def model() -> nn.Sequential:
    return nn.Sequential(OrderedDict(first=source()))


def statistics(rows_per_request: int = 64) -> dict[str, InputStatistics]:
    seen = model()
    with record_inputs(seen, {"first": seen.first}, rows_per_request) as recording:
        for request in range(8):
            seen(inputs(64, request))
    return recording.statistics()


DYNAMIC = LinearScheme(calibration_steps=0, smoothing=0.5)


def quantized(
    scheme: LinearScheme, folder: Path | None = None, **recorded
) -> tuple[nn.Module, DuQuantReport]:
    found = model()
    return found, quantize_(found, scheme, runtime=RuntimeOptions(pack_dir=folder), **recorded)


def quality(layer: nn.Module) -> float:
    x = inputs(512, 99)
    return sqnr_db(source()(x), layer(x))


# Recording


class SideBySide(nn.Module):
    """Two layers of the same input, and one of another that is changed in place after a call."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.last = (nn.Linear(8, 8, bias=False) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.q(x) + self.k(x)
        self.last(y)
        y.mul_(2)
        return self.last(y)


@torch.inference_mode()
def test_layers_side_by_side_share_the_rows_that_are_kept_of_them():
    net, x = SideBySide(), torch.randn(10, 8)
    layers = {name: getattr(net, name) for name in ("q", "k", "last")}
    with record_inputs(net, layers, rows_per_request=4) as recording:
        net(x)
        net(x + 1)
    found = recording.statistics()
    assert found["q"].inputs is found["k"].inputs
    kept = found["q"].inputs.load()
    assert torch.equal(kept, torch.cat((draw_rows([x], 4, 1), draw_rows([x + 1], 4, 2))))
    y = net.q(x) + net.k(x)
    assert torch.equal(found["last"].inputs.load()[:4], draw_rows([y, 2 * y], 4, 1))


def test_rows_are_drawn_evenly_without_repetition_and_all_where_they_are_few():
    x = torch.arange(100.0)[:, None]
    drawn = torch.stack([draw_rows([x[:50], x[50:]], 10, seed)[:, 0] for seed in range(200)]).float()
    assert drawn.shape == (200, 10)
    assert (drawn.diff(dim=1) > 0).all()
    assert drawn.mean().item() == pytest.approx(49.5, abs=2)
    assert torch.equal(draw_rows([x[:3]], 10, 0), x[:3].bfloat16())


def test_small_models_keep_more_rows_and_the_full_size_one_those_that_fit():
    full = [2048] * 6 * 12 + [6144] * 12 + [1536, 6144] * 16
    assert len(full) == 116
    assert rows_to_keep(full) == 4096
    assert rows_to_keep([64] * 40) == 32768
    assert rows_to_keep([2048] * 116) == 5932


# Layers


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("static", [0, 8])
def test_a_layer_comes_nearer_to_what_it_was_on_inputs_not_seen(bits, static):
    """From 7 bits on activations of 8 bits are what is left of the error."""
    scheme = dataclasses.replace(DYNAMIC, weight=IntFormat(bits), calibration_steps=static, block=20)
    found = {}
    for rounding in Rounding:
        one = dataclasses.replace(scheme, rounding=rounding)
        layer, report = quantized(one, statistics=statistics())
        for request in range(static):
            layer(inputs(64, request))
        assert not report.layers["first"].is_calibrating
        found[rounding] = quality(layer)
    assert found[Rounding.FEEDBACK] > found[Rounding.NEAREST] + (2 if bits < 7 else -0.1), found


@pytest.mark.parametrize("scale", WeightScale)
@pytest.mark.parametrize("abits", [None, 4, 8])
def test_the_inputs_are_taken_as_they_are_multiplied(scale, abits, monkeypatch):
    """Oracle: the layer's own prologue."""
    seen = []
    factorize = hessian.factorize
    monkeypatch.setattr("gr00t.quantization.weight_codes.factorize", lambda h: seen.append(h) or factorize(h))
    scheme = dataclasses.replace(
        DYNAMIC, activation=None if abits is None else IntFormat(abits), weight_scale=scale
    )
    recorded = statistics()
    layer = quantized(scheme, statistics=recorded)[1].layers["first"]
    rows = recorded["first"].inputs.load().float()
    if abits is None:
        wanted = layer.transforms(rows)
    else:
        q, s = layer.backend.prologue(rows, layer.operands())
        wanted = q * s
    assert torch.equal(seen[0], wanted)


def test_static_scales_are_folded_before_it_is_rounded(monkeypatch):
    seen = []
    factorize = hessian.factorize
    monkeypatch.setattr("gr00t.quantization.weight_codes.factorize", lambda h: seen.append(h) or factorize(h))
    recorded = statistics()
    net, report = quantized(dataclasses.replace(DYNAMIC, calibration_steps=2), statistics=recorded)
    assert seen == []  # to nearest, until they are known
    for request in range(2):
        net(inputs(64, request))
    layer = report.layers["first"]
    q, _ = layer.backend.prologue(recorded["first"].inputs.load().float(), layer.operands())
    assert torch.equal(seen[0], q.float())
    assert (layer._source, layer._inputs) == (None, None)


def test_inputs_that_arrive_rotated_are_rotated_before_it_is_rounded_by_them(monkeypatch):
    """Oracle: the layer's prologue on what it will be called with."""
    seen = []
    factorize = hessian.factorize
    monkeypatch.setattr("gr00t.quantization.weight_codes.factorize", lambda h: seen.append(h) or factorize(h))
    recorded = statistics()["first"]
    spec = LinearSpec(CHANNELS, 48, absorbs=True, informed=True, rounding=Rounding.FEEDBACK)
    rotation = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(3)))[0][None]
    layer = DuQuantLinear.from_linear(source(), spec, recorded, rotation)
    arriving = rotate(recorded.inputs.load().float(), rotation)
    q, s = layer.backend.prologue(arriving, layer.operands())
    assert torch.equal(seen[0], q * s)


def test_a_layer_without_inputs_is_rounded_to_nearest_and_the_log_counts_both(caplog):
    caplog.set_level(logging.INFO)
    for rows in (0, 64):
        _, report = quantized(DYNAMIC, statistics=statistics(rows))
        assert report.rounded_with_feedback == (rows > 0)
        assert report.to_dict()["layers"]["first"]["rounding"] == ("feedback" if rows else "nearest")
    quantized(dataclasses.replace(DYNAMIC, rounding=Rounding.NEAREST), statistics=statistics())
    told = [line for line in caplog.messages if "rounded" in line]
    assert told == [
        "[GR00T-DUQUANT] Weights rounded to nearest in 1 layers, of whose inputs no rows were recorded",
        "[GR00T-DUQUANT] Weights rounded with feedback in 1 layers",
        "[GR00T-DUQUANT] Weights rounded to nearest in 1 layers",
    ]


def test_a_spec_that_wants_inputs_which_are_not_there_is_refused():
    spec = LinearSpec(CHANNELS, 48, rounding=Rounding.FEEDBACK)
    with pytest.raises(ValueError, match="rounding=feedback, but no inputs to round by are there"):
        DuQuantLinear.from_linear(source(), spec)


def test_damping_that_had_to_be_raised_is_told_with_the_layers_name(monkeypatch, caplog):
    factorize = hessian.factorize
    monkeypatch.setattr(
        "gr00t.quantization.weight_codes.factorize", lambda h: factorize(h)._replace(damping=10.0)
    )
    quantized(DYNAMIC, statistics=statistics())
    assert [record.message for record in caplog.records] == [
        "[GR00T-DUQUANT] first: damping 0.1 leaves the Hessian of its inputs not positive; 10 was needed"
    ]


# Packs


def test_the_next_start_restores_and_other_bits_are_rounded_by_the_inputs_that_were_kept(tmp_path):
    first, _ = quantized(DYNAMIC, tmp_path, statistics=statistics())
    again, report = quantized(DYNAMIC, tmp_path)
    assert (report.packed, report.rounded_with_feedback) == (1, 1)
    assert torch.equal(again(inputs(5, 3)), first(inputs(5, 3)))
    three = dataclasses.replace(DYNAMIC, weight=IntFormat(3), block=8)
    other, report = quantized(three, tmp_path)
    assert (report.packed, report.rounded_with_feedback) == (0, 1)
    assert torch.equal(other(inputs(5, 3)), quantized(three, statistics=statistics())[0](inputs(5, 3)))


def test_a_start_that_waits_for_static_scales_is_rounded_by_the_inputs_that_were_kept(tmp_path):
    static = dataclasses.replace(DYNAMIC, calibration_steps=2)
    quantized(static, tmp_path, statistics=statistics())  # ends before it has its scales
    again, report = quantized(static, tmp_path)
    whole, _ = quantized(static, statistics=statistics())
    assert report.packed == 1
    for net in (again, whole):
        for request in range(2):
            net(inputs(64, request))
    assert torch.equal(again(inputs(5, 3)), whole(inputs(5, 3)))
    assert torch.equal(quantized(static, tmp_path)[0](inputs(5, 3)), whole(inputs(5, 3)))


def test_packs_outlive_their_inputs_and_what_is_rebuilt_without_says_so(tmp_path, caplog):
    quantized(DYNAMIC, tmp_path, statistics=statistics())
    (kept,) = (tmp_path / INPUTS).iterdir()
    kept.write_bytes(kept.read_bytes()[:-2] + b"xx")
    _, report = quantized(DYNAMIC, tmp_path)
    assert (report.packed, report.rounded_with_feedback) == (1, 1)
    _, report = quantized(dataclasses.replace(DYNAMIC, block=8), tmp_path)
    assert report.rounded_with_feedback == 0
    assert f"first is rounded to nearest: its recorded inputs cannot be read ({kept}: not" in caplog.text


def test_layers_that_share_inputs_keep_one_file_of_them(tmp_path):
    net = nn.Sequential(OrderedDict(a=source(), b=source()))
    rows = RowsInMemory(inputs(64, 0).bfloat16())
    one = statistics()["first"]._replace(inputs=rows)
    quantize_(net, DYNAMIC, statistics={"a": one, "b": one}, runtime=RuntimeOptions(pack_dir=tmp_path))
    assert [path.stem for path in (tmp_path / INPUTS).iterdir()] == [rows.sha256[:32]]


def test_what_was_written_before_there_was_feedback_is_what_it_was():
    """Oracle: the JSON of then has no such field, and that of a layer rounded to nearest still has none."""
    spec = LinearSpec(8, 8)
    assert "rounding" not in spec_to_json(spec)
    assert spec_from_json(spec_to_json(spec)) == spec
    feedback = dataclasses.replace(spec, rounding=Rounding.FEEDBACK)
    assert spec_to_json(feedback)["rounding"] == "feedback"
    assert spec_from_json(spec_to_json(feedback)) == feedback
    with pytest.raises(ValueError, match="rounding: expected one of nearest, feedback, got 'up'"):
        spec_from_json(spec_to_json(feedback) | {"rounding": "up"})


def test_the_variable():
    config = DuQuantConfig.from_environ({"GR00T_DUQUANT_ROUNDING": "nearest"})
    assert config is not None
    assert config.scheme.rounding is Rounding.NEAREST
    assert DuQuantConfig().scheme.rounding is Rounding.FEEDBACK
