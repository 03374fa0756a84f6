"""Oracles: SciPy's Beta distribution, a loss written out by hand, and inference itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.model.inputs import ModelInputs
from gr00t.model.network.action_head import Clock
from gr00t.training.flow_matching import check_actions, draw_flow, masked_flow_loss, sample_times
from tests.training.samples import InventedSamples, bound_transform


def test_times_are_those_of_the_beta_distribution() -> None:
    stats = pytest.importorskip("scipy.stats", reason="scripts/setup_env.sh libero installs scipy")
    times = sample_times(20_000, torch.Generator().manual_seed(0)).double().numpy()
    assert times.min() >= 0
    assert times.max() <= 0.999
    # Kolmogorov-Smirnov: 0.0060 measured; 0.0115 is the 1 % point at this number of draws.
    assert stats.kstest(1 - times / 0.999, stats.beta(1.5, 1).cdf).statistic < 0.0115


def test_of_a_network_that_answers_zero_the_loss_is_the_mean_square_of_the_target(checkpoint: Path) -> None:
    model = GR00T_N1_5.from_pretrained(checkpoint)
    for parameter in model.action_head.action_decoder.parameters():
        parameter.data = torch.zeros_like(parameter)
    samples = InventedSamples(checkpoint, 2)
    inputs = bound_transform(checkpoint, samples.metadata)(samples.batch(np.array([0, 1])))
    request = ModelInputs.from_mapping(inputs, model.config).to(torch.device("cpu"), torch.float32)
    actions, mask = inputs["action"], inputs["action_mask"]
    flow = draw_flow((2, 16, 32), 1, torch.Generator().manual_seed(3))
    loss = masked_flow_loss(model, request, actions, mask, flow, int(mask.sum()))
    noise = torch.randn(2, 16, 32, generator=torch.Generator().manual_seed(3))
    wanted = ((actions - noise)[..., :7] ** 2).mean()
    assert float(loss) == pytest.approx(float(wanted), rel=1e-6)


def test_shapes_that_do_not_belong_together_are_refused(checkpoint: Path) -> None:
    model = GR00T_N1_5.from_pretrained(checkpoint)
    samples = InventedSamples(checkpoint, 1)
    inputs = bound_transform(checkpoint, samples.metadata)(samples.batch(np.array([0])))
    with pytest.raises(ValueError, match=r"actions \(1, 15, 32\).*expected \(1, 16, 32\) for both"):
        check_actions(model, 1, inputs["action"][:, 1:], inputs["action_mask"])


def test_the_best_velocity_has_no_loss_and_leads_inference_to_the_actions(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the actions are known, v(x, t) = (actions - x) / (1 - t): time, sign and buckets must agree."""
    model = GR00T_N1_5.from_pretrained(checkpoint)
    samples = InventedSamples(checkpoint, 2)
    inputs = bound_transform(checkpoint, samples.metadata)(samples.batch(np.array([0, 1])))
    actions = inputs["action"]

    def best(x: torch.Tensor, clock: Clock, context: object) -> torch.Tensor:
        return (actions - x) / (1 - clock.timesteps[:, None, None] / 1000)

    monkeypatch.setattr(model.action_head, "velocity", best)
    request = ModelInputs.from_mapping(inputs, model.config).to(torch.device("cpu"), torch.float32)
    flow = draw_flow((2, 16, 32), 20, torch.Generator().manual_seed(0))
    mask = inputs["action_mask"]
    loss = masked_flow_loss(model, request, actions, mask, flow, int(mask.sum()))
    # A bucket is up to 0.001 early: 3.2e-6 measured; with a clock that runs backwards 4e4.
    assert float(loss) < 1e-4
    for steps in (1, 4, 8):
        model.action_head.num_inference_timesteps = steps
        answered = model.get_action(inputs, seeds=[1, 2])["action_pred"]
        assert float((answered - actions).abs().max()) < 1e-5
