"""What a request must contain, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gr00t.model.checkpoint.n1d7.config import Gr00tN1d7Config
from gr00t.model.gr00t_n1d7.positions import Grid, token_positions
from gr00t.model.network.request import (
    RequestTensors,
    check_range,
    check_shape,
    pad_left,
    take_tensor,
    valid_tokens,
)


@dataclass(frozen=True)
class Gr00tN1d7Inputs(RequestTensors):
    """The tensors of one request: B samples, each with images of any number and size, and a prompt.

    Attributes:
        pixel_values: (P, values), the patches of all images, those of sample 0 first.
        grids: rows and columns of patches of every image.
        counts: how many images each sample has.
        images: (B, T) bool, True on the tokens of images.
        positions: (3, B, T) int64, of the tokens in time, rows and columns.
    """

    grids: tuple[Grid, ...]
    counts: tuple[int, ...]
    images: Tensor
    positions: Tensor

    @classmethod
    def from_mapping(cls, inputs: Mapping[str, Any], config: Gr00tN1d7Config) -> Gr00tN1d7Inputs:
        """Pick NVIDIA's input names out of `inputs` and check them; other keys are ignored.

        Raises:
            ValueError: a key is missing, or a tensor does not fit the model; the message names the key.
        """
        pixels, grid, ids, mask, state, embodiment = (
            take_tensor(inputs, key)
            for key in (
                *("pixel_values", "image_grid_thw", "input_ids", "attention_mask", "state"),
                "embodiment_id",
            )
        )
        check_shape("pixel_values", pixels, ("patches", config.vision.patch_values))
        check_shape("image_grid_thw", grid, ("images", 3))
        check_shape("input_ids", ids, ("batch", "tokens"))
        batch = len(ids)
        check_shape("attention_mask", mask, tuple(ids.shape))
        check_shape("state", state, (batch, config.state_history, config.max_state_dim))
        check_shape("embodiment_id", embodiment, (batch,))
        check_range("input_ids", ids, config.vocab_size)
        check_range("embodiment_id", embodiment, config.num_embodiments)
        valid = valid_tokens("attention_mask", mask)
        grids = _grids(grid, len(pixels), config.vision.merge_size)
        merge = config.vision.merge_size
        merged = [(height // merge, width // merge) for height, width in grids]
        images = (ids == config.image_token_id) & valid
        counts = _images_per_sample(images, valid, merged, config)
        return cls(
            pixels,
            ids.long(),
            None if valid.all() else valid,
            state,
            embodiment.long(),
            grids,
            counts,
            images,
            token_positions(images, valid, merged),
        )

    @classmethod
    def cat(cls, requests: Sequence[Gr00tN1d7Inputs], pad_token_id: int) -> Gr00tN1d7Inputs:
        """Join requests, at least one, in one batch: the samples of the first one first.

        Args:
            requests: with states of equal sizes.
            pad_token_id: what fills the prompts; it is masked and changes nothing.
        """
        if len(requests) == 1:
            return requests[0]
        valid = pad_left([request.mask() for request in requests], 0)
        longest = valid.shape[1]
        positions = [
            F.pad(request.positions, (longest - request.positions.shape[2], 0), value=1)
            for request in requests
        ]
        return cls(
            torch.cat([request.pixel_values for request in requests]),
            pad_left([request.input_ids for request in requests], pad_token_id),
            None if valid.all() else valid,
            torch.cat([request.state for request in requests]),
            torch.cat([request.embodiment for request in requests]),
            tuple(grid for request in requests for grid in request.grids),
            tuple(count for request in requests for count in request.counts),
            pad_left([request.images for request in requests], 0),
            torch.cat(positions, dim=1),
        )

    def part(self, first: int, last: int) -> Gr00tN1d7Inputs:
        """Samples number `first` to `last` - 1, with their images."""
        begin, end = sum(self.counts[:first]), sum(self.counts[:last])
        sizes = [height * width for height, width in self.grids]
        return Gr00tN1d7Inputs(
            self.pixel_values[sum(sizes[:begin]) : sum(sizes[:end])],
            self.input_ids[first:last],
            None if self.valid is None else self.valid[first:last],
            self.state[first:last],
            self.embodiment[first:last],
            self.grids[begin:end],
            self.counts[first:last],
            self.images[first:last],
            self.positions[:, first:last],
        )

    def to(self, device: torch.device, dtype: torch.dtype) -> Gr00tN1d7Inputs:
        """The same on `device`, with the floating-point tensors in `dtype`."""
        return Gr00tN1d7Inputs(
            self.pixel_values.to(device, dtype),
            self.input_ids.to(device),
            None if self.valid is None else self.valid.to(device),
            self.state.to(device, dtype),
            self.embodiment.to(device),
            self.grids,
            self.counts,
            self.images.to(device),
            self.positions.to(device),
        )


def _grids(grid: Tensor, patches: int, merge: int) -> tuple[Grid, ...]:
    """Rows and columns of every image's patches, which are all of the patches and make whole tokens."""
    check_range("image_grid_thw", grid, patches + 1)
    rows: list[list[int]] = grid.tolist()
    for time, height, width in rows:
        if time != 1 or not height or not width or height % merge or width % merge:
            raise ValueError(
                f"image_grid_thw: expected one frame, and rows and columns of patches in squares of {merge}, "
                f"got {[time, height, width]}"
            )
    total = sum(height * width for _, height, width in rows)
    if total != patches:
        raise ValueError(f"pixel_values: {patches} patches, image_grid_thw says {total}")
    return tuple((height, width) for _, height, width in rows)


def _images_per_sample(
    images: Tensor, valid: Tensor, grids: Sequence[Grid], config: Gr00tN1d7Config
) -> tuple[int, ...]:
    """How many images each sample has. The tokens of an image are in one piece."""
    sizes, token = [height * width for height, width in grids], config.image_token_id
    counts, taken = [], 0
    for sample, (is_image, is_valid) in enumerate(zip(images, valid, strict=True)):
        runs, first = _runs(is_image[is_valid].tolist()), taken
        if config.action_head.dit.text_every is not None and sum(runs) in (0, int(is_valid.sum())):
            raise ValueError(f"input_ids: sample {sample} needs images (tokens {token}) and text")
        for run in runs:
            while run > 0 and taken < len(sizes):
                run, taken = run - sizes[taken], taken + 1
            if run:
                raise ValueError(
                    f"input_ids: the tokens (id {token}) of sample {sample} are not those of whole images, "
                    f"which have {sizes} tokens"
                )
        counts.append(taken - first)
    if taken != len(sizes):
        raise ValueError(
            f"input_ids: tokens (id {token}) for {taken} images, image_grid_thw has {len(sizes)}"
        )
    return tuple(counts)


def _runs(flags: Sequence[bool]) -> list[int]:
    """Lengths of the runs of True."""
    lengths = [0]
    for flag in flags:
        if flag:
            lengths[-1] += 1
        elif lengths[-1]:
            lengths.append(0)
    return [length for length in lengths if length]
