"""Static activation scales: really pooled, over requests and denoising steps, then folded and fixed."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from torch import nn

from gr00t.quantization import DuQuantConfig, DuQuantLinear, select_targets, wrap_duquant
from gr00t.quantization.metrics import sqnr_db
from gr00t.quantization.observers import PooledPercentile


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
    config = DuQuantConfig.from_environ(
        {
            "GR00T_DUQUANT_INCLUDE": "proj|idle",
            "GR00T_DUQUANT_CALIB_STEPS": str(steps),
            "GR00T_DUQUANT_EXCLUDE": "a^",
        }
    )
    assert config is not None
    wrap_duquant(model, select_targets(model, config), config)
    assert isinstance(model.proj, DuQuantLinear)
    return model, model.proj


def test_all_steps_of_all_requests_are_pooled_and_then_the_scales_are_fixed(caplog):
    """Defect of the field: the scale was frozen on the first call of the first request."""
    caplog.set_level(logging.INFO)
    model, layer = quantized_loop(steps=3)
    observer = layer._observer
    assert observer is not None
    for request in range(3):
        assert layer.is_calibrating
        assert layer._source is not None
        model(normal(5, 32, seed=request))
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
    codes, s_x = layer.quantize_input(layer.rotate_input(x), layer.spec.activation)
    assert s_x.unique().tolist() == [1.0]
    weight = layer._integer_weight().double() * layer.row_scale.double()
    expected = layer.restore_output((codes.double() @ weight.T).float())
    torch.testing.assert_close(layer(x), expected, rtol=1e-6, atol=1e-6)
    # And that the folded scale is the inverse of the one that the input was divided by: measured 21.0 dB.
    assert sqnr_db(x @ (normal(32, 32) / 8).T, layer(x)) > 18
