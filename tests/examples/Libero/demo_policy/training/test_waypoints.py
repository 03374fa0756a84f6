"""Oracles: a timeline by hand, a mean written out, and a run that was not interrupted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from examples.Libero.demo_policy.training.waypoints import WaypointHead, WaypointLoss, next_waypoints
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.training.losses import Loss
from gr00t.training.plan import TrainingPlan
from gr00t.training.trainer import FLOW_MATCHING, Trainer
from tests.training.samples import InventedSamples, bound_transform

CPU = torch.device("cpu")


def trainer(checkpoint: Path, weight: float, waypoints: np.ndarray) -> Trainer:
    samples = InventedSamples(checkpoint, 3)
    plan = TrainingPlan(
        steps=4,
        batch_size=2,
        learning_rate=1e-3,
        precision="float32",
    )
    model = GR00T_N1_5.from_pretrained(checkpoint)
    losses: list[Loss] = [FLOW_MATCHING]
    if weight:
        losses.append(WaypointLoss(model, waypoints, weight))
    return Trainer(model, samples, bound_transform(checkpoint, samples.metadata), plan, CPU, losses)


def test_a_waypoint_is_where_the_gripper_next_moves_or_the_episode_ends() -> None:
    # Two episodes: 0..5, whose gripper closes at 2 and opens at 4, and 6..8, whose gripper stays.
    gripper = np.array([1, 1, 0, 0, 1, 1, 0, 0, 0], dtype=np.float32)
    positions = np.arange(9, dtype=np.float32)[:, None].repeat(3, axis=1)
    waypoints = next_waypoints(positions, gripper, np.array([6, 3]))
    assert waypoints[:, 0].tolist() == [2, 2, 4, 4, 5, 5, 8, 8, 8]


def test_every_forward_is_guessed_from() -> None:
    head = WaypointHead(width=4)
    with torch.no_grad():
        head.guess.weight[:, 0] = torch.tensor([1.0, 2.0, 3.0])
    # The guesses are (1, 2, 3) and 0.
    tokens = [torch.ones(1, 4), torch.zeros(1, 4)]
    assert head.loss(tokens, torch.tensor([[0.0, 2.0, 3.0]])).item() == pytest.approx((1 / 3 + 13 / 3) / 2)


def test_waypoints_change_what_is_learned_and_a_resumed_run_still_ends_with_the_same_bits(
    checkpoint: Path, tmp_path: Path
) -> None:
    waypoints = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    whole = trainer(checkpoint, 0.5, waypoints)
    figures = list(whole.run())
    for line in figures:
        assert line["waypoint_loss"] > 0
        assert line["loss"] == pytest.approx(line["flow_loss"] + 0.5 * line["waypoint_loss"])

    first = trainer(checkpoint, 0.5, waypoints)
    steps = first.run()
    next(steps)
    first.save(tmp_path)
    steps.close()
    second = trainer(checkpoint, 0.5, waypoints)
    assert second.resume(tmp_path)
    list(second.run())
    without = trainer(checkpoint, 0.0, waypoints)
    list(without.run())
    weights = dict(whole.weights())
    kept = dict(second.weights())
    # What is saved are the model's own weights, not those of the head.
    assert weights.keys() == GR00T_N1_5.from_pretrained(checkpoint).state_dict().keys()
    for name, value in weights.items():
        assert torch.equal(value, kept[name]), name
    name = "action_head.layers.0.mlp.up_proj.weight"
    assert not torch.equal(weights[name], dict(without.weights())[name])
