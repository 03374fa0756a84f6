"""What a request must contain, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gr00t.model.checkpoint.config import Gr00tConfig
from gr00t.model.network.request import (
    RequestTensors,
    check_range,
    check_shape,
    pad_left,
    take_tensor,
    valid_tokens,
)


@dataclass(frozen=True)
class ModelInputs(RequestTensors):
    """The tensors of one request, B samples with V images and a prompt of T tokens each.

    pixel_values is (B*V, 3, size, size).
    """

    @classmethod
    def from_mapping(cls, inputs: Mapping[str, Any], config: Gr00tConfig) -> ModelInputs:
        """Pick NVIDIA's input names out of `inputs` and check them; other keys are ignored.

        Raises:
            ValueError: a key is missing, or a tensor does not fit the model; the message names the key.
        """
        pixels, ids, mask, state, embodiment = (
            take_tensor(inputs, key)
            for key in (
                "eagle_pixel_values",
                "eagle_input_ids",
                "eagle_attention_mask",
                "state",
                "embodiment_id",
            )
        )
        side = config.image_size
        check_shape("eagle_pixel_values", pixels, ("images", config.vision.num_channels, side, side))
        check_shape("eagle_input_ids", ids, ("batch", "tokens"))
        batch = len(ids)
        check_shape("eagle_attention_mask", mask, tuple(ids.shape))
        check_shape("state", state, (batch, "steps", config.max_state_dim))
        check_shape("embodiment_id", embodiment, (batch,))
        check_range("eagle_input_ids", ids, config.vocab_size)
        check_range("embodiment_id", embodiment, config.num_embodiments)
        valid = valid_tokens("eagle_attention_mask", mask)
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


def _check_image_tokens(ids: Tensor, images: int, config: Gr00tConfig) -> None:
    """Every image needs `tokens_per_image` image tokens, and a sample has whole images."""
    per_image = config.tokens_per_image
    counts = (ids == config.image_token_index).sum(dim=1).tolist()
    if sum(counts) != images * per_image or any(count % per_image for count in counts):
        raise ValueError(
            f"eagle_input_ids: {counts} image tokens (id {config.image_token_index}) in the samples "
            f"do not fit {images} images of {per_image} tokens each"
        )
