"""Layers with weights of their own for every embodiment.

Robots differ in what their state and action vectors mean, so what reads and writes those vectors is learned
once per robot, and an embodiment id chooses. W holds (E, in, out), the transpose of nn.Linear's convention,
one per embodiment.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gr00t.model.network.time_encoding import sines_first


class EmbodimentLinear(nn.Module):
    """y = x W[e] + b[e]."""

    def __init__(self, num_embodiments: int, in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.02 * torch.randn(num_embodiments, in_features, out_features))
        self.bias = nn.Parameter(torch.zeros(num_embodiments, out_features))

    def forward(self, x: Tensor, embodiment: Tensor | int) -> Tensor:
        """(B, T, in) with one embodiment id per sample (B,), or one for all -> (B, T, out)."""
        if isinstance(embodiment, int):  # not copied: up to 9 MB at full size
            weight = self.weight[embodiment].expand(len(x), -1, -1)
            return torch.baddbmm(self.bias[embodiment].expand(len(x), 1, -1), x, weight)
        return torch.baddbmm(self.bias[embodiment].unsqueeze(1), x, self.weight[embodiment])


class EmbodimentMLP(nn.Module):
    """Two embodiment layers with a ReLU between: the state encoder and the action decoder."""

    def __init__(self, num_embodiments: int, in_features: int, hidden: int, out_features: int) -> None:
        super().__init__()
        self.layer1 = EmbodimentLinear(num_embodiments, in_features, hidden)
        self.layer2 = EmbodimentLinear(num_embodiments, hidden, out_features)

    def forward(self, x: Tensor, embodiment: Tensor | int) -> Tensor:
        """(B, T, in) -> (B, T, out)."""
        return self.layer2(F.relu(self.layer1(x, embodiment)), embodiment)


class ActionEncoder(nn.Module):
    """Noisy actions and the time of the flow -> one token per action."""

    def __init__(self, num_embodiments: int, action_dim: int, width: int) -> None:
        super().__init__()
        self.layer1 = EmbodimentLinear(num_embodiments, action_dim, width)
        self.layer2 = EmbodimentLinear(num_embodiments, 2 * width, width)
        self.layer3 = EmbodimentLinear(num_embodiments, width, width)

    def forward(self, actions: Tensor, timesteps: Tensor, embodiment: Tensor | int) -> Tensor:
        """Encode a chunk.

        Args:
            actions: (B, H, A).
            timesteps: (B or 1,), discrete.
            embodiment: (B,), or one for all.

        Returns:
            (B, H, width).
        """
        h = self.layer1(actions, embodiment)
        time = sines_first(timesteps, h.shape[-1]).to(h.dtype)
        h = torch.cat([h, time.unsqueeze(1).expand_as(h)], dim=-1)
        return self.layer3(F.silu(self.layer2(h, embodiment)), embodiment)


def common(embodiment: Tensor) -> Tensor | int:
    """The embodiment that all samples (B,) have, where that is known without waiting for a device."""
    if embodiment.device.type != "cpu":
        return embodiment
    found = set(embodiment.tolist())
    return found.pop() if len(found) == 1 else embodiment
