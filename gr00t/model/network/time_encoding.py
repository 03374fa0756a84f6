"""The two sinusoids by which a timestep enters the network: the action encoder's and the DiT's.

    [f(t w_0), f(t w_1), ..., g(t w_0), g(t w_1), ...]    with w_i = 10000^(-i / spacing)

They differ in order and in spacing. Both are computed in float64 and rounded to float32 once. In float32, as
the reference does it, the angle at t = 999 is known to 2e-4 only and depends, in its last bits, on the
processor's `exp` and `cos`; and with it the velocity. Rounded from float64 it does not.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sines_first(timesteps: Tensor, width: int) -> Tensor:
    """The action encoder's: sines, then cosines, spaced over width / 2. (B,) -> (B, width) float32."""
    angles = _angles(timesteps, width // 2, spacing=width // 2)
    return torch.cat([angles.sin(), angles.cos()], dim=-1).to(torch.float32)


def cosines_first(timesteps: Tensor, width: int) -> Tensor:
    """The DiT's: cosines, then sines, spaced over width / 2 - 1. (B,) -> (B, width) float32."""
    angles = _angles(timesteps, width // 2, spacing=width // 2 - 1)
    return torch.cat([angles.cos(), angles.sin()], dim=-1).to(torch.float32)


def _angles(timesteps: Tensor, count: int, spacing: int) -> Tensor:
    exponents = torch.arange(count, dtype=torch.float64, device=timesteps.device) / spacing
    return timesteps.to(torch.float64).unsqueeze(-1) * (exponents * -math.log(10000.0)).exp()
