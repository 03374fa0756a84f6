"""The two sinusoids by which a timestep enters the network: the action encoder's and the DiT's.

    [f(t w_0), f(t w_1), ..., g(t w_0), g(t w_1), ...]    with w_i = 10000^(-i / spacing)

They differ in order, in spacing, and in where float32 rounds the exponent. The last is kept too: at t = 999
one unit in the last place of w is 6e-5 in the angle, which is visible in the velocity.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sines_first(timesteps: Tensor, width: int) -> Tensor:
    """The action encoder's: sines, then cosines, spaced over width / 2. (B,) -> (B, width) float32."""
    half = width // 2
    angles = _angles(timesteps, _indices(timesteps, half) * (-math.log(10000.0) / half))
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def cosines_first(timesteps: Tensor, width: int) -> Tensor:
    """The DiT's: cosines, then sines, spaced over width / 2 - 1. (B,) -> (B, width) float32."""
    half = width // 2
    angles = _angles(timesteps, _indices(timesteps, half) * -math.log(10000.0) / (half - 1))
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def _indices(timesteps: Tensor, count: int) -> Tensor:
    return torch.arange(count, dtype=torch.float32, device=timesteps.device)


def _angles(timesteps: Tensor, log_frequencies: Tensor) -> Tensor:
    return timesteps.to(torch.float32).unsqueeze(-1) * log_frequencies.exp()
