"""An auxiliary target of training: how far it is to where the hand will be when the gripper next moves.

The flow-matching loss tells a network where to go from here, which it must learn from thousands of noises;
where the thing to be grasped is follows from a single picture. Saying so directly teaches a network that
starts from nothing what its images mean. The layer that answers exists in training only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from examples.Libero.demo_policy.training.future_tokens import future_tokens, last_layer
from gr00t.data.lerobot.dataset import LeRobotDataset
from gr00t.data.lerobot.mixture import DatasetMixture
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.training.losses import Loss, Part, TrainingStep

POSITION = ("state.x", "state.y", "state.z")
GRIPPER = "action.gripper"


def normalized_waypoints(samples: LeRobotDataset | DatasetMixture) -> NDArray[np.float32]:
    """The way from the hand to its waypoint at every time step of a data set, (N, 3), standardized.

    A place alone hardly changes within an episode and follows from the instruction but for some centimetres;
    what is left of the way changes with every step, and only an image tells it.

    Raises:
        DatasetError: the data configuration has no hand position or no gripper.
    """
    positions = np.concatenate([samples.values(key) for key in POSITION], axis=1)
    way = next_waypoints(positions, samples.values(GRIPPER)[:, 0], samples.lengths) - positions
    deviation = way.std(axis=0)
    return (way - way.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)


def next_waypoints(
    positions: NDArray[np.float32], gripper: NDArray[np.float32], lengths: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Where the hand is when the command to the gripper next changes, or else at the end of the episode.

    Args:
        positions: of the hand (N, 3), the episodes one after the other.
        gripper: its command (N,).
        lengths: of the episodes, N in all.

    Returns:
        (N, 3); at the step of a change already the one after it.
    """
    targets = np.empty(len(positions), dtype=np.int64)
    end = 0
    for length in lengths:
        start, end = end, end + int(length)
        changes = start + 1 + np.flatnonzero(np.diff(gripper[start:end]))
        marks = np.append(changes, end - 1)
        # The first mark after each step; the last step has none but itself.
        following = np.searchsorted(marks, np.arange(start, end), side="right")
        targets[start:end] = marks[np.minimum(following, len(marks) - 1)]
    waypoints: NDArray[np.float32] = positions[targets]
    return waypoints


class WaypointHead(nn.Module):
    """A linear guess from what `future_tokens` gives.

    Args:
        width: E of the tokens.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.guess = nn.Linear(width, len(POSITION))
        nn.init.zeros_(self.guess.weight)
        nn.init.zeros_(self.guess.bias)

    def loss(self, tokens: Sequence[Tensor], waypoints: Tensor) -> Tensor:
        """Mean squared error of the guesses, a scalar.

        Args:
            tokens: (B, E) of one or more forwards of the same samples.
            waypoints: (B, 3).
        """
        missed = [nn.functional.mse_loss(self.guess(seen).float(), waypoints) for seen in tokens]
        return torch.stack(missed).mean()


class WaypointLoss(Loss):
    """The guess from every forward by which flow matching learns from a sample.

    Args:
        model: whose future tokens are asked; not kept.
        waypoints: (N, 3) of all N samples.
        weight: of the loss.
    """

    name = "waypoint"

    def __init__(self, model: GR00T_N1_5, waypoints: NDArray[np.float32], weight: float) -> None:
        self.weight = weight
        self.watches = (f"action_head.{last_layer(model.action_head)}",)
        self._waypoints = waypoints
        self._head = WaypointHead(model.action_head.config.dit.width)

    def layers(self) -> Mapping[str, nn.Module]:
        """The layer that guesses."""
        return {"waypoint_head": self._head}

    def identity(self) -> Mapping[str, Any]:
        """The weight."""
        return {"waypoint_weight": self.weight}

    def targets(self, model: GR00T_N1_5, step: TrainingStep) -> Mapping[str, Tensor]:
        """Waypoints (B, 3)."""
        return {"waypoint": torch.from_numpy(self._waypoints[step.samples])}

    def __call__(self, model: GR00T_N1_5, part: Part) -> tuple[Tensor, Mapping[str, float]]:
        """The share of a part in the mean over the whole step."""
        tokens = [future_tokens(model.action_head, output) for output in part.outputs[self.watches[0]]]
        return self._head.loss(tokens, part.targets["waypoint"]) / part.step.plan.accumulation, {}
