"""Static activation scales: really pooled, over requests and denoising steps, then folded and fixed."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from torch import nn

from gr00t.quantization import DuQuantLinear, LayerFilter, LinearScheme, quantize_
from gr00t.quantization.calibration.observers import PooledPercentile
from gr00t.quantization.calibration.screening import Screening
from gr00t.quantization.numerics.metrics import sqnr_db
from gr00t.quantization.numerics.rotations import rotate_back


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("percentile", [50.0, 99.0, 99.9, 100.0])
@pytest.mark.parametrize("requests", [1, 8])
def test_pooled_percentile_equals_numpys_over_all_rows(percentile, requests):
    """Oracle: numpy.percentile of everything at once; each request calls the layer three times."""
    observer = PooledPercentile(percentile, requests)
    pool = []
    for request in range(requests):
        for call in range(3):
            x = normal(20, 6, seed=10 * request + call) * (1 + request)
            pool.append(x)
            observer.observe(x)
        observer.end_request()
    expected = np.percentile(torch.cat(pool).abs().numpy(), percentile, axis=0)
    np.testing.assert_allclose(observer.result().numpy(), expected, rtol=1e-6)
    assert observer.rows == 60 * requests


def test_memory_is_bounded_after_the_first_request():
    observer = PooledPercentile(99.9, 1000)
    for request in range(40):
        observer.observe(normal(100, 4, seed=request))
        observer.end_request()
    assert sum(len(kept) for kept in observer._kept) <= 0.001 * 100 * 1000 + 3


def test_more_rows_than_planned_give_a_percentile_that_is_not_lower():
    observer = PooledPercentile(90.0, 2)
    pool = [normal(10, 3, seed=1), normal(1000, 3, seed=2)]
    for x in pool:
        observer.observe(x)
        observer.end_request()
    assert (observer.result().numpy() >= np.percentile(torch.cat(pool).abs().numpy(), 90, axis=0)).all()


def test_nothing_observed_is_an_error():
    with pytest.raises(ValueError, match="no activations were observed"):
        PooledPercentile(99.9, 1).result()


class Loop(nn.Module):
    """Calls one layer four times a request, with inputs that grow: a denoising loop in small."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(32, 32, bias=False)
        self.proj.weight.data = normal(32, 32) / 8
        self.idle = nn.Linear(32, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for step in range(4):
            x = self.proj(x) * (1 + step)
        return x


def quantized_loop(steps: int) -> tuple[Loop, DuQuantLinear]:
    model = Loop().requires_grad_(False)
    quantize_(model, LinearScheme(calibration_steps=steps), LayerFilter(layers=("proj", "idle")))
    assert isinstance(model.proj, DuQuantLinear)
    return model, model.proj


def test_all_steps_of_all_requests_are_pooled_and_then_the_scales_are_fixed(caplog):
    """Defect of the field: the scale was frozen on the first call of the first request."""
    caplog.set_level(logging.INFO)
    model, layer = quantized_loop(steps=3)
    observer = PooledPercentile(99.9, 3)
    seen = model.proj.register_forward_pre_hook(
        lambda layer, args: observer.observe(layer.rotate_input(args[0]))
    )
    for request in range(3):
        assert layer.is_calibrating
        assert layer._source is not None
        model(normal(5, 32, seed=request))
    seen.remove()
    assert observer.rows == 3 * 4 * 5
    assert not layer.is_calibrating
    assert layer._source is None
    assert bool(layer.calibrated)
    assert torch.equal(
        layer.act_scale, (observer.result() / 127).clamp_min(observer.result().amax() * 1e-4 / 127)
    )
    fixed = layer.act_scale.clone()
    model(normal(5, 32, seed=99) * 100)
    assert torch.equal(layer.act_scale, fixed)
    assert (
        "[GR00T-DUQUANT] Activation scales of 1 layers fixed from 3 pooled requests and folded into "
        "the weights; float weights released"
    ) in caplog.messages
    assert "[GR00T-DUQUANT] 1 layers were never called and keep dynamic scales: idle" in caplog.messages


def test_the_static_scale_is_folded_into_the_weight():
    """Oracle: codes times scales, multiplied out in float64 without the layer's forward."""
    model, layer = quantized_loop(steps=1)
    x = normal(5, 32)
    model(x)
    codes, s_x = layer.backend.prologue(x, layer.operands())
    assert s_x.unique().tolist() == [1.0]
    weight = layer._integer_weight().double() * layer.row_scale.double()
    expected = rotate_back((codes.double() @ weight.T).float(), layer.transforms.rotation_out)
    torch.testing.assert_close(layer(x), expected, rtol=1e-6, atol=1e-6)
    # And that the folded scale is the inverse of the one that the input was divided by: measured 21.0 dB.
    assert sqnr_db(x @ (normal(32, 32) / 8).T, layer(x)) > 18


# One request among many


def poisoned(value: float) -> torch.Tensor:
    x = normal(5, 32, seed=77)
    x[1, 3] = value
    return x


@pytest.mark.parametrize("place", [0, 1, 4])
@pytest.mark.parametrize("value", [torch.inf, torch.nan, 1e30, 1e9, 3e3])
def test_one_absurd_request_does_not_touch_the_scales_of_everybody(place, value, caplog):
    """Oracle: the scales of the other requests alone, bit for bit. Its own answer is dynamic, as ever."""
    caplog.set_level(logging.INFO)
    (model, layer), (alone, expected) = quantized_loop(steps=5), quantized_loop(steps=5)
    requests = [normal(5, 32, seed=seed) for seed in range(5)]
    for x in requests:
        alone(x)
    for x in [*requests[:place], poisoned(value), *requests[place:]]:
        model(x)
    assert not layer.is_calibrating
    assert torch.equal(layer.act_scale, expected.act_scale)
    assert torch.equal(layer.codes, expected.codes)
    assert "from 5 pooled requests" in caplog.text
    assert (
        "[GR00T-DUQUANT] 1 other requests were left out of the activation scales: their inputs are not "
        "finite, or far from those of the pooled ones"
    ) in caplog.messages
    # The second of two that differ is the one that is noticed.
    number, why = (max(place, 1) + 1, "held apart") if value == 3e3 else (place + 1, "left out")
    assert f"[GR00T-DUQUANT] Calibration: request {number} is {why}: " in caplog.text


def test_absurd_requests_that_come_first_and_often_are_outvoted():
    (model, layer), (alone, expected) = quantized_loop(steps=5), quantized_loop(steps=5)
    for seed in range(5):
        alone(normal(5, 32, seed=seed))
    loud = [poisoned(10**exponent) for exponent in (2.6, 4.2, 5.8)]
    quiet = [normal(5, 32) * 10**exponent for exponent in (-3.0, -6.0)]
    for x in [*loud, *quiet, *loud]:  # of more kinds than groups are kept
        model(x)
    for seed in range(5):
        model(normal(5, 32, seed=seed))
        model(poisoned(torch.inf))
    assert torch.equal(layer.act_scale, expected.act_scale)


def test_where_all_requests_are_absurd_nothing_is_fixed_and_answers_stay_dynamic(caplog):
    model, layer = quantized_loop(steps=3)
    for _ in range(20):
        model(poisoned(1e30))
    assert layer.is_calibrating
    assert torch.isfinite(model(normal(5, 32))).all()
    said = [line for line in caplog.messages if "Calibration: request" in line]
    assert [line.split()[3] for line in said] == ["1", "2", "4", "8", "16"]
    assert said[0].endswith("request 1 is left out: |x| above 1e+06 in the input of proj")
    for seed in range(2):
        model(normal(5, 32, seed=seed))
    assert not layer.is_calibrating


def test_a_request_that_failed_on_its_way_is_not_pooled():
    (model, layer), (alone, expected) = quantized_loop(steps=2), quantized_loop(steps=2)
    calls: list[int] = []

    def fail_at_the_third_call(*_: object) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("out of memory")

    hook = layer.register_forward_hook(fail_at_the_third_call)
    with pytest.raises(RuntimeError, match="out of memory"):
        model(normal(5, 32, seed=9) * 3)
    hook.remove()
    for seed in range(2):
        model(normal(5, 32, seed=seed))
        alone(normal(5, 32, seed=seed))
    assert torch.equal(layer.act_scale, expected.act_scale)


def test_requests_as_different_as_those_of_one_policy_are_all_pooled():
    """The most different requests of the demonstration policy, by their widest layer: 26 times apart."""
    screening: Screening[list[int]] = Screening(list)
    for peak in (22.2, 0.85, 3.1, 22.2, 0.85, 3.1):
        screening.place({"down_proj": peak, "proj": 1.0})
    assert screening.left_out == 0


def test_memory_is_bounded_by_the_groups_that_are_kept():
    screening: Screening[list[int]] = Screening(list)
    for request in range(200):
        group = screening.place({"layer": 10.0 ** (request % 7), "other": 1.0})
        assert group is not None or request % 7 > 6
    assert len(screening._groups) <= 4
    assert screening.requests == 200
    assert screening.left_out == 200 - screening.largest.members
