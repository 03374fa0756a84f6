"""lerobot's preparation of an observation for a groot policy, and its way back from the model to the robot.

What differs from NVIDIA's pipeline: cameras in alphabetical order, resized whole by a bicubic filter in
uint8 arithmetic, not cropped; all states, and all actions, normalized as one vector, in float32; every
instruction printed as a list of one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from gr00t.data.errors import ObservationError
from gr00t.data.transform.base import ComposedModalityTransform, InvertibleModalityTransform
from gr00t.data.transform.video import check_frames
from gr00t.model.lerobot.keys import GrootKeys, metadata_tag
from gr00t.model.lerobot.processors import Bounds
from gr00t.model.lerobot.rules import DEFAULT_INSTRUCTION, GrootRules
from gr00t.model.preprocessing.gr00t_transform import GR00TTransform


class GrootVectors(InvertibleModalityTransform):
    """Cameras, states and actions by their keys, to and from what the model takes."""

    apply_to: list[str] = Field(default_factory=list, description="not used: the keys say")
    keys: GrootKeys
    state: Bounds
    action: Bounds
    image_size: int

    def apply(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return `video` (B, T, V, S, S, 3) uint8, `state` (B, 1, A) float32 and the instruction as it was.

        Raises:
            ObservationError: a number is so far from those of the training set that it overflows.
        """
        if self.training:
            raise NotImplementedError("a groot policy of lerobot is served here, not trained")
        rest = {key: value for key, value in data.items() if not key.startswith(("video.", "state."))}
        frames = [self._resized(key, data[key]) for key in self.keys.cameras]
        parts = [torch.as_tensor(data[key]).to(torch.float32) for key in self.keys.state]
        state = normalize(torch.cat(parts, dim=-1), self.state)
        if not torch.isfinite(state).all():
            raise ObservationError("state: its numbers are too far from those of the training set")
        return {**rest, "video": np.stack(frames, axis=-4), "state": state}

    def unapply(self, data: dict[str, Any]) -> dict[str, Any]:
        """Split `action` (B, H, 32) into the robot's keys and units."""
        predicted = data.pop("action")[:, : self.keys.horizon]
        robot, start = denormalize(predicted[..., : len(self.action.low)], self.action), 0
        for key, width in self.keys.action.items():
            data[key] = robot[..., start : start + width]
            start += width
        return data

    def _resized(self, key: str, frames: np.ndarray) -> np.ndarray:
        """Frames (B, T, H, W, 3) at the model's resolution."""
        metadata = self.dataset_metadata
        check_frames(key, frames, metadata.entry(metadata.modalities, key))
        size = (self.image_size, self.image_size)
        if frames.shape[-3:-1] == size:
            return frames
        # A copy: frames may be read-only, or reversed.
        flat = (
            torch.from_numpy(frames.reshape(-1, *frames.shape[-3:]).copy()).permute(0, 3, 1, 2).contiguous()
        )
        # Each alone: of several together the layout in memory, and with it the rounding, may be another.
        small = [
            torch.nn.functional.interpolate(
                frame[None], size, mode="bicubic", align_corners=False, antialias=True
            )
            for frame in flat
        ]
        return torch.cat(small).permute(0, 2, 3, 1).numpy().reshape(*frames.shape[:-3], *size, 3)


class GrootInputs(GR00TTransform):
    """The model's inputs, with lerobot's instruction where there is none; each printed as a list of one."""

    default_instruction: str = DEFAULT_INSTRUCTION
    lower_case: bool = Field(default=False, description="letters, digits and spaces alone, in lower case")

    def _texts(self, data: dict[str, Any], batch: int, batched: bool) -> list[str]:
        texts = super()._texts(data, batch, batched)
        return [str([text]) for text in texts] if self._prompt_style == "brackets" else texts

    def _text(self, key: str, sample: Any) -> str:
        # As plain text: `_texts` prints all of them alike.
        while isinstance(sample, np.ndarray | list | tuple) and len(sample) == 1:
            sample = sample[0]
        text = super()._text(key, str(sample) if isinstance(sample, np.str_) else sample)
        text = text or self.default_instruction
        if not self.lower_case:
            return text
        return "".join(letter for letter in text.lower() if letter.isalnum() or letter.isspace())


def groot_pipeline(rules: GrootRules, keys: GrootKeys, image_size: int) -> ComposedModalityTransform:
    """Build the pipeline of a groot policy.

    Args:
        rules: of its folder.
        keys: under which observations come.
        image_size: side of the square images that the model takes.
    """
    tag = metadata_tag(rules)
    return ComposedModalityTransform(
        transforms=[
            GrootVectors(keys=keys, state=rules.state, action=rules.action, image_size=image_size),
            GrootInputs(
                state_horizon=1,
                action_horizon=keys.horizon,
                max_state_dim=rules.max_state_dim,
                max_action_dim=rules.max_action_dim,
                lower_case=rules.formalize_language,
                embodiment_tag_mapping={tag.value: rules.embodiment},
            ),
        ]
    )


def normalize(values: Tensor, bounds: Bounds) -> Tensor:
    """(..., A) float32 to [-1, 1] by the range of training; 0 where that is one number."""
    low, high = torch.tensor(bounds.low), torch.tensor(bounds.high)
    span = high - low
    mapped = 2 * (values - low) / torch.where(span != 0, span, torch.ones_like(span)) - 1
    return torch.where(span != 0, mapped, torch.zeros_like(mapped))


def denormalize(values: Tensor, bounds: Bounds) -> Tensor:
    """The inverse of `normalize`; the one number where the range is one."""
    low, high = torch.tensor(bounds.low), torch.tensor(bounds.high)
    span = high - low
    mapped = (values + 1.0) * 0.5 * torch.where(span != 0, span, torch.ones_like(span)) + low
    return torch.where(span != 0, mapped, low)
