"""What a request holds in every family, the checks of it, and the noise that its flow starts from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gr00t.model.checkpoint.architecture import Architecture


@dataclass(frozen=True)
class RequestTensors(ABC):
    """The tensors of one request, B samples with images and a prompt of T tokens each.

    pixel_values and state (B, S, max_state_dim) are floating point; input_ids (B, T) and embodiment (B,) are
    int64; valid (B, T) is False on padding, and None where nothing is padded.
    """

    pixel_values: Tensor
    input_ids: Tensor
    valid: Tensor | None
    state: Tensor
    embodiment: Tensor

    def mask(self) -> Tensor:
        """`valid`, also where nothing is padded."""
        return torch.ones_like(self.input_ids, dtype=torch.bool) if self.valid is None else self.valid

    @abstractmethod
    def to(self, device: torch.device, dtype: torch.dtype) -> RequestTensors:
        """The same on `device`, with the floating-point tensors in `dtype`."""


def pad_left(rows: Sequence[Tensor], value: int) -> Tensor:
    """Join (B_i, T_i) tensors to one of (sum of B_i, largest T_i); shorter rows are filled on the left."""
    length = max(part.shape[1] for part in rows)
    return torch.cat([F.pad(part, (length - part.shape[1], 0), value=value) for part in rows])


def draw_noise(
    batch: int, config: Architecture, noise: Tensor | None, seeds: Sequence[int] | None, dtype: torch.dtype
) -> Tensor:
    """The start of the flow, (B, H, A) in `dtype`: given, seeded per sample, or one global draw.

    A seeded sample gets the same noise whatever batch it is in. All draws happen on the CPU, so that a seed
    means the same on every device.

    Raises:
        ValueError: both `noise` and `seeds` are given, or one does not fit the batch.
    """
    shape = (batch, config.action_horizon, config.action_dim)
    if noise is not None:
        if seeds is not None:
            raise ValueError("noise and seeds exclude each other")
        noise = torch.as_tensor(noise)
        check_shape("noise", noise, shape)
        return noise.to(dtype)
    if seeds is None:
        return torch.randn(shape, dtype=dtype)
    if len(seeds) != batch:
        raise ValueError(f"seeds: expected one per sample ({batch}), got {len(seeds)}")
    generators = (torch.Generator("cpu").manual_seed(int(seed)) for seed in seeds)
    return torch.cat([torch.randn((1, *shape[1:]), generator=generator) for generator in generators]).to(
        dtype
    )


def take_tensor(inputs: Mapping[str, Any], key: str) -> Tensor:
    """One of the model's inputs.

    Raises:
        ValueError: it is not there.
    """
    if key not in inputs:
        raise ValueError(
            f"{key} is missing from the model's inputs; got {', '.join(sorted(inputs)) or 'nothing'}"
        )
    return torch.as_tensor(inputs[key])


def valid_tokens(key: str, mask: Tensor) -> Tensor:
    """The tokens (B, T) that a mask, 0 on padding, leaves.

    Raises:
        ValueError: it leaves a sample without any.
    """
    valid = mask.to(torch.bool)
    if not valid.any(dim=1).all():
        empty = (~valid.any(dim=1)).nonzero().flatten().tolist()
        raise ValueError(f"{key}: samples {empty} have no token at all")
    return valid


def check_shape(key: str, tensor: Tensor, expected: tuple[int | str, ...]) -> None:
    """Compare shapes; a name in `expected` stands for any size from 1.

    Raises:
        ValueError: they differ.
    """
    fits = tensor.dim() == len(expected) and all(
        size >= 1 if isinstance(want, str) else size == want
        for size, want in zip(tensor.shape, expected, strict=True)
    )
    if not fits:
        wanted = ", ".join(str(want) for want in expected)
        raise ValueError(f"{key}: expected shape ({wanted}), got {tuple(tensor.shape)}")


def check_range(key: str, ids: Tensor, count: int) -> None:
    """Check that `ids` are whole numbers in [0, count).

    Raises:
        ValueError: they are not.
    """
    if ids.is_floating_point() or ids.is_complex():
        raise ValueError(f"{key}: expected integers, got {ids.dtype}")
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= count:
        raise ValueError(f"{key}: {low if low < 0 else high} is outside 0..{count - 1}")
