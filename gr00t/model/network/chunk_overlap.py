"""Real-time chunking: a chunk begins with what is left of the one before it (arXiv 2506.07339).

A robot acts on while the next chunk is computed. Its first actions are those that are being executed and stay
as they are; the next ones follow the old chunk, less and less; the rest is free.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# How Isaac-GR00T calls the fields below, but for the previous chunk.
_OPTIONS = ("action_horizon", "rtc_overlap_steps", "rtc_frozen_steps", "rtc_ramp_rate")


@dataclass(frozen=True)
class ChunkOverlap:
    """The chunk before, and how far it holds.

    Attributes:
        previous: (B, H, A), normalized.
        horizon: how many of its actions are any; the last of them overlap.
        steps: how many overlap.
        frozen: how many of these do not change at all.
        ramp_rate: how fast the others are let go; larger is faster.
    """

    previous: Tensor
    horizon: int
    steps: int
    frozen: int
    ramp_rate: float

    def __post_init__(self) -> None:
        """Refuse numbers that do not fit together."""
        for name in ("horizon", "steps", "frozen"):
            if type(getattr(self, name)) is not int:
                raise ValueError(f"overlap: {name} must be an integer, got {getattr(self, name)!r}")
        if not 0 <= self.frozen <= self.steps <= self.horizon <= self.previous.shape[1]:
            raise ValueError(
                f"overlap: expected 0 <= frozen <= steps <= horizon <= {self.previous.shape[1]}, the length "
                f"of the previous chunk; got frozen {self.frozen}, steps {self.steps}, horizon {self.horizon}"
            )
        if not (math.isfinite(self.ramp_rate) and self.ramp_rate > 0):
            raise ValueError(f"overlap: ramp_rate must be a positive number, got {self.ramp_rate!r}")

    @classmethod
    def from_options(cls, previous: Tensor, options: Mapping[str, Any]) -> ChunkOverlap:
        """Read what Isaac-GR00T calls options.

        Raises:
            ValueError: one is missing, or they do not fit together.
        """
        missing = [name for name in _OPTIONS if name not in options]
        if missing:
            raise ValueError(f"options: {', '.join(missing)} missing; needed: {', '.join(_OPTIONS)}")
        return cls(previous, *(options[name] for name in _OPTIONS))

    def start(self, noise: Tensor) -> Tensor:
        """Where the flow starts: `noise` (B, H, A), after what overlaps.

        Raises:
            ValueError: the previous chunks are not those of this batch.
        """
        kept = self.previous[:, self.horizon - self.steps : self.horizon].to(noise)
        if kept.shape[::2] != noise.shape[::2] or self.steps > noise.shape[1]:
            raise ValueError(
                f"overlap: {self.steps} steps of {tuple(self.previous.shape)} do not fit chunks of shape "
                f"{tuple(noise.shape)}"
            )
        return torch.cat([kept, noise[:, self.steps :]], dim=1)

    def strength(self, horizon: int, like: Tensor) -> Tensor:
        """By how much of its velocity each action moves, (H, 1) in [0, 1], in dtype and device of `like`."""
        ramp = 1 - torch.exp(-self.ramp_rate * torch.linspace(0.0, 1.0, self.steps - self.frozen + 2))
        rising = ramp[1:-1] / ramp[-1]
        parts = [torch.zeros(self.frozen), rising, torch.ones(horizon - self.steps)]
        return torch.cat(parts).unsqueeze(1).to(like)
