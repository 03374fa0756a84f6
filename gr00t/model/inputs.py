"""What a request must contain, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gr00t.model.checkpoint.config import Gr00tConfig


@dataclass(frozen=True)
class ModelInputs:
    """The tensors of one request, B samples with V images and a prompt of T tokens each.

    pixel_values (B*V, 3, size, size) and state (B, S, max_state_dim) are floating point; input_ids (B, T) and
    embodiment (B,) are int64; valid (B, T) is False on padding, and None where nothing is padded.
    """

    pixel_values: Tensor
    input_ids: Tensor
    valid: Tensor | None
    state: Tensor
    embodiment: Tensor

    @classmethod
    def from_mapping(cls, inputs: Mapping[str, Any], config: Gr00tConfig) -> ModelInputs:
        """Pick NVIDIA's input names out of `inputs` and check them; other keys are ignored.

        Raises:
            ValueError: a key is missing, or a tensor does not fit the model; the message names the key.
        """
        pixels, ids, mask, state, embodiment = (
            _tensor(inputs, key)
            for key in (
                "eagle_pixel_values",
                "eagle_input_ids",
                "eagle_attention_mask",
                "state",
                "embodiment_id",
            )
        )
        side = config.image_size
        _check_shape("eagle_pixel_values", pixels, ("images", config.vision.num_channels, side, side))
        _check_shape("eagle_input_ids", ids, ("batch", "tokens"))
        batch = len(ids)
        _check_shape("eagle_attention_mask", mask, tuple(ids.shape))
        _check_shape("state", state, (batch, "steps", config.max_state_dim))
        _check_shape("embodiment_id", embodiment, (batch,))
        _check_range("eagle_input_ids", ids, config.vocab_size)
        _check_range("embodiment_id", embodiment, config.num_embodiments)
        valid = mask.to(torch.bool)
        if not valid.any(dim=1).all():
            empty = (~valid.any(dim=1)).nonzero().flatten().tolist()
            raise ValueError(f"eagle_attention_mask: samples {empty} have no token at all")
        _check_image_tokens(ids, len(pixels), config)
        return cls(pixels, ids.long(), None if valid.all() else valid, state, embodiment.long())

    @classmethod
    def cat(cls, requests: Sequence[ModelInputs], pad_token_id: int) -> ModelInputs:
        """Join requests, at least one, in one batch: the samples of the first one first.

        Args:
            requests: of equal sizes but for their prompts.
            pad_token_id: what fills the prompts; it is masked and changes nothing.
        """
        if len(requests) == 1:
            return requests[0]
        valid = pad_left([request.mask() for request in requests], 0)
        return cls(
            torch.cat([request.pixel_values for request in requests]),
            pad_left([request.input_ids for request in requests], pad_token_id),
            None if valid.all() else valid,
            torch.cat([request.state for request in requests]),
            torch.cat([request.embodiment for request in requests]),
        )

    def mask(self) -> Tensor:
        """`valid`, also where nothing is padded."""
        return torch.ones_like(self.input_ids, dtype=torch.bool) if self.valid is None else self.valid

    def part(self, first: int, last: int) -> ModelInputs:
        """Samples number `first` to `last` - 1, with their images, of which all samples have as many."""
        views = len(self.pixel_values) // len(self.state)
        return ModelInputs(
            self.pixel_values[first * views : last * views],
            self.input_ids[first:last],
            None if self.valid is None else self.valid[first:last],
            self.state[first:last],
            self.embodiment[first:last],
        )

    def to(self, device: torch.device, dtype: torch.dtype) -> ModelInputs:
        """The same on `device`, with the floating-point tensors in `dtype`."""
        return ModelInputs(
            self.pixel_values.to(device, dtype),
            self.input_ids.to(device),
            None if self.valid is None else self.valid.to(device),
            self.state.to(device, dtype),
            self.embodiment.to(device),
        )


def pad_left(rows: Sequence[Tensor], value: int) -> Tensor:
    """Join (B_i, T_i) tensors to one of (sum of B_i, largest T_i); shorter rows are filled on the left."""
    length = max(part.shape[1] for part in rows)
    return torch.cat([F.pad(part, (length - part.shape[1], 0), value=value) for part in rows])


def draw_noise(
    batch: int, config: Gr00tConfig, noise: Tensor | None, seeds: Sequence[int] | None, dtype: torch.dtype
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
        _check_shape("noise", noise, shape)
        return noise.to(dtype)
    if seeds is None:
        return torch.randn(shape, dtype=dtype)
    if len(seeds) != batch:
        raise ValueError(f"seeds: expected one per sample ({batch}), got {len(seeds)}")
    generators = (torch.Generator("cpu").manual_seed(int(seed)) for seed in seeds)
    return torch.cat([torch.randn((1, *shape[1:]), generator=generator) for generator in generators]).to(
        dtype
    )


def _tensor(inputs: Mapping[str, Any], key: str) -> Tensor:
    if key not in inputs:
        raise ValueError(
            f"{key} is missing from the model's inputs; got {', '.join(sorted(inputs)) or 'nothing'}"
        )
    return torch.as_tensor(inputs[key])


def _check_shape(key: str, tensor: Tensor, expected: tuple[int | str, ...]) -> None:
    """Compare shapes; a name in `expected` stands for any size from 1."""
    fits = tensor.dim() == len(expected) and all(
        size >= 1 if isinstance(want, str) else size == want
        for size, want in zip(tensor.shape, expected, strict=True)
    )
    if not fits:
        wanted = ", ".join(str(want) for want in expected)
        raise ValueError(f"{key}: expected shape ({wanted}), got {tuple(tensor.shape)}")


def _check_range(key: str, ids: Tensor, count: int) -> None:
    """Check that `ids` are whole numbers in [0, count)."""
    if ids.is_floating_point() or ids.is_complex():
        raise ValueError(f"{key}: expected integers, got {ids.dtype}")
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= count:
        raise ValueError(f"{key}: {low if low < 0 else high} is outside 0..{count - 1}")


def _check_image_tokens(ids: Tensor, images: int, config: Gr00tConfig) -> None:
    """Every image needs `tokens_per_image` image tokens, and a sample has whole images."""
    per_image = config.tokens_per_image
    counts = (ids == config.image_token_index).sum(dim=1).tolist()
    if sum(counts) != images * per_image or any(count % per_image for count in counts):
        raise ValueError(
            f"eagle_input_ids: {counts} image tokens (id {config.image_token_index}) in the samples "
            f"do not fit {images} images of {per_image} tokens each"
        )
