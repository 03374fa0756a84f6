"""An auxiliary target of training: how far it is to where the hand will be when the gripper next moves.

The flow-matching loss tells a network where to go from here, which it must learn from thousands of noises;
where the thing to be grasped is follows from a single picture. Saying so directly teaches a network that
starts from nothing what its images mean. The layer that answers exists in training only.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gr00t.data.lerobot.dataset import LeRobotDataset
from gr00t.model.action_head import ActionHead

POSITION = ("state.x", "state.y", "state.z")
GRIPPER = "action.gripper"


def normalized_waypoints(samples: LeRobotDataset) -> NDArray[np.float32]:
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
    """A linear guess from the future tokens as they leave the diffusion transformer.

    Those tokens belong to no action. N1.5 trained them to foretell what will be seen (FLARE, arXiv
    2505.15659); here they foretell where to go, and on the way to them the transformer learns to find it.

    Args:
        head: whose last layer is watched from now on.
    """

    def __init__(self, head: ActionHead) -> None:
        super().__init__()
        self._future = len(head.future_tokens)
        self._horizon = head.config.action_horizon
        self.guess = nn.Linear(head.config.dit.width, len(POSITION))
        nn.init.zeros_(self.guess.weight)
        nn.init.zeros_(self.guess.bias)
        self._seen: list[Tensor] = []
        head.layers[-1].register_forward_hook(lambda module, inputs, output: self._seen.append(output))

    def loss(self, waypoints: Tensor) -> Tensor:
        """Mean squared error of the guesses since the last call, a scalar.

        Args:
            waypoints: (B, 3), of the B samples of each of these forwards.
        """
        guesses = [
            self.guess(tokens[:, -self._horizon - self._future : -self._horizon].mean(dim=1))
            for tokens in self._seen
        ]
        self._seen.clear()
        return torch.stack([nn.functional.mse_loss(guess.float(), waypoints) for guess in guesses]).mean()
