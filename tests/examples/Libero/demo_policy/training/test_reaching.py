"""Oracles: tokens by hand, and a way that only the picture tells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from examples.Libero.demo_policy.training.future_tokens import future_tokens, last_layer
from examples.Libero.demo_policy.training.reaching import Reaching
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.testing.random_checkpoint import write_random_checkpoint
from gr00t.training.losses import watched

NAN = float("nan")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> GR00T_N1_5:
    folder: Path = write_random_checkpoint(tmp_path_factory.mktemp("small"), torch_dtype=torch.float32)
    return GR00T_N1_5.from_pretrained(folder)


def inputs(model: GR00T_N1_5, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    features = torch.randn(batch, 5, model.config.backbone_width, generator=random)
    return features, torch.ones(batch, 5, dtype=torch.bool)


def test_future_tokens_are_those_between_state_and_actions(model: GR00T_N1_5) -> None:
    head = model.action_head
    left: list[torch.Tensor] = []
    hook = head.layers[-1].register_forward_hook(lambda module, args, output: left.append(output))
    features, valid = inputs(model, 2)
    embodiment = torch.zeros(2, dtype=torch.int64)
    context = head.context(features, valid, torch.zeros(2, 1, head.config.max_state_dim), embodiment)
    noise = torch.zeros(2, head.config.action_horizon, head.config.action_dim)
    clock = head.clock(embodiment, noise.dtype)
    with watched(head, [last_layer(head)]) as outputs:
        head.velocity(noise, clock, context)
        head.velocity(noise + 1, clock, context)
    head.velocity(noise, clock, context)
    hook.remove()
    future = len(head.future_tokens)
    assert left[0].shape[1] == 1 + future + head.config.action_horizon
    seen = [future_tokens(head, output) for output in outputs[last_layer(head)]]
    assert len(seen) == 2, "what comes after the context does not count"
    for tokens, output in zip(seen, left[:2], strict=True):
        assert torch.equal(tokens, output[:, 1 : 1 + future].mean(dim=1))
    assert not torch.equal(seen[0], seen[1])


def test_a_guess_costs_the_square_of_its_error_to_the_object_that_is_meant(model: GR00T_N1_5) -> None:
    states = torch.zeros(3, 1, model.action_head.config.max_state_dim)
    # Mean 2 and deviation 1 along every axis: standardized -1 and 1.
    ways = np.full((3, 2, 3), NAN, dtype=np.float32)
    ways[0, 0], ways[2, 1] = 1.0, 3.0
    asked = Reaching(model.action_head, states, 0, ways)
    with torch.no_grad():
        asked.guess.bias.fill_(0.5)
    features, valid = inputs(model, 2)
    chosen, kinds = np.array([2, 0]), torch.tensor([1, 0])
    loss = asked.loss(model.action_head, features, valid, chosen, kinds, torch.Generator())
    assert loss.item() == pytest.approx((0.5**2 + 1.5**2) / 2)


def test_the_way_is_learned_from_what_is_seen(model: GR00T_N1_5) -> None:
    count = 6
    features, valid = inputs(model, count)
    states = torch.zeros(count, 1, model.action_head.config.max_state_dim)
    ways = np.random.default_rng(0).normal(size=(count, 1, 3)).astype(np.float32)
    asked = Reaching(model.action_head, states, 0, ways)
    model.requires_grad_(False)
    model.action_head.layers.requires_grad_(True)
    parameters = [*asked.parameters(), *model.action_head.layers.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-2)
    chosen, kinds = np.arange(count), torch.zeros(count, dtype=torch.int64)
    losses = []
    for step in range(40):
        loss = asked.loss(
            model.action_head, features, valid, chosen, kinds, torch.Generator().manual_seed(step)
        )
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    # Measured: 1.00 and 0.14.
    assert losses[-1] < 0.3 * losses[0]


def test_what_does_not_fit_is_refused(model: GR00T_N1_5) -> None:
    states = torch.zeros(3, 1, model.action_head.config.max_state_dim)
    with pytest.raises(ValueError, match="3 states, 2 ways: expected as many"):
        Reaching(model.action_head, states, 0, np.zeros((2, 1, 3), np.float32))
