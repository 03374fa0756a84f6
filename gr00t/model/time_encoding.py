"""The sinusoid that the action encoder and the DiT derive from a timestep, each in its own order."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def timestep_angles(timesteps: Tensor, count: int, spacing: int) -> Tensor:
    """Angles t * 10000^(-i / spacing) for i = 0 .. count-1, always float32.

    Args:
        timesteps: (B,), discrete.
        count: number of frequencies.
        spacing: over how many frequencies the exponent falls from 0 to -1.

    Returns:
        (B, count).
    """
    i = torch.arange(count, dtype=torch.float32, device=timesteps.device)
    return timesteps.to(torch.float32).unsqueeze(-1) * torch.exp(i * (-math.log(10000.0) / spacing))
