"""What the transforms of camera frames have in common: which frames, in which form, drawn how often.

Between VideoToTensor and VideoToNumpy frames are tensors, and the numbers are torchvision's. A transform
with `backend="albumentations"` takes and gives bytes instead, without those two around it, and follows
albumentations 1.4 with OpenCV, which the reference pins: other interpolations, no antialiasing.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor

from gr00t.data.errors import ObservationError
from gr00t.data.transform.base import ModalityTransform
from gr00t.spelling import did_you_mean

Mode = Literal["train", "eval"]
BACKENDS = ("torchvision", "albumentations")


class VideoTransform(ModalityTransform):
    """A function on frames (N, C, H, W) in [0, 1], applied to every camera of `apply_to` by itself.

    A subclass overrides `get_transform`; it returns None where the transform is an identity.
    """

    backend: str = Field(default="torchvision", description="whose numbers: torchvision or albumentations")

    @field_validator("backend")
    @classmethod
    def _known_backend(cls, backend: str) -> str:
        if backend not in BACKENDS:
            raise ValueError(f"{backend!r}: {did_you_mean(backend, BACKENDS)}")
        return backend

    @property
    def takes_bytes(self) -> bool:
        """Whether frames are arrays of bytes (..., H, W, C), not tensors (..., C, H, W)."""
        return self.backend == "albumentations"

    def check_interpolation(self, name: str, known: Collection[str]) -> None:
        """Raise a ValueError if the backend does not interpolate like this."""
        if name not in known:
            raise ValueError(
                f"interpolation {name!r} with backend {self.backend!r}: {did_you_mean(name, known)}"
            )

    def get_transform(self, mode: Mode = "train") -> Callable[[Any], Any] | None:
        """Return the function for one mode."""
        raise NotImplementedError(f"{type(self).__name__} must override get_transform")

    def apply(self, data: dict[str, Any]) -> dict[str, Any]:
        """Transform the frames (..., C, H, W) of every camera.

        Raises:
            ObservationError: a camera is missing.
        """
        transform = self.get_transform("train" if self.training else "eval")
        if transform is None:
            return data
        for key in self.apply_to:
            frames = self._frames(data, key)
            # The leading dimensions are time, or batch and time.
            flat = transform(frames.reshape(-1, *frames.shape[-3:]))
            data[key] = self._stored(flat.reshape(*frames.shape[:-3], *flat.shape[-3:]))
        return data

    def _frames(self, data: dict[str, Any], key: str) -> Any:
        if key not in data:
            raise ObservationError(f"no {key!r} in the observation; {did_you_mean(key, data)}")
        self.check(key, data[key])
        return planes(data[key]) if self.takes_bytes else data[key]

    def _stored(self, frames: Any) -> Any:
        return (frames.movedim(-3, -1) * 255).round().to(torch.uint8).numpy() if self.takes_bytes else frames

    def check(self, key: str, frames: Any) -> None:
        """Raise an ObservationError if the frames of one camera cannot be transformed."""
        name = type(self).__name__
        if self.takes_bytes and not (isinstance(frames, np.ndarray) and frames.dtype == np.uint8):
            raise ObservationError(f"{key}: {name} with backend 'albumentations' takes arrays of uint8")
        if not self.takes_bytes and not isinstance(frames, Tensor):
            raise ObservationError(f"{key}: {name} comes after VideoToTensor and before VideoToNumpy")


def planes(frames: np.ndarray) -> Tensor:
    """Convert frames (..., H, W, C) uint8 to (..., C, H, W) float32 in [0, 1]."""
    # A copy: frames that a simulator flipped have negative strides, and those from the wire are read-only.
    # Channels first while they are bytes: resizing planes takes two thirds of the time.
    return torch.from_numpy(np.moveaxis(frames, -1, -3).copy()).to(torch.float32).div_(255.0)


class RandomVideoTransform(VideoTransform):
    """A transform that in train mode draws anew for every clip; in eval mode it is a fixed one."""

    def apply(self, data: dict[str, Any]) -> dict[str, Any]:
        """Transform the frames (..., T, C, H, W) of every camera; T frames of a sample change alike."""
        if not self.training:
            return super().apply(data)
        for key in self.apply_to:
            frames = self._frames(data, key)
            clips = self.random_clips(frames.reshape(-1, *frames.shape[-4:]))
            data[key] = self._stored(clips.reshape(*frames.shape[:-4], *clips.shape[-4:]))
        return data

    @abstractmethod
    def random_clips(self, clips: Tensor) -> Tensor:
        """Change clips (B, T, C, H, W) at random."""


class RandomSceneTransform(VideoTransform):
    """A transform that in train mode draws once for every sample; in eval mode it is an identity.

    All cameras of a sample change alike, as in the reference: a scene that is mirrored is so for all of them.
    """

    def get_transform(self, mode: Mode = "train") -> None:
        """Return None: nothing happens in eval mode."""

    def apply(self, data: dict[str, Any]) -> dict[str, Any]:
        """Transform the frames (..., T, C, H, W) of every camera in train mode.

        Raises:
            ObservationError: a camera is missing, or cameras have frames of different numbers of samples.
        """
        if not self.training:
            return data
        drawn: Tensor | None = None
        for key in self.apply_to:
            frames = self._frames(data, key)
            clips = frames.reshape(-1, *frames.shape[-4:])
            if drawn is None:
                drawn = self.draw(len(clips))
            if len(drawn) != len(clips):
                raise ObservationError(
                    f"{key}: {len(clips)} samples, {self.apply_to[0]} has {len(drawn)} of them"
                )
            data[key] = self._stored(self.changed(clips, drawn).reshape(frames.shape))
        return data

    @abstractmethod
    def draw(self, samples: int) -> Tensor:
        """Draw what happens to each of the samples, (B,)."""

    @abstractmethod
    def changed(self, clips: Tensor, drawn: Tensor) -> Tensor:
        """Return the clips (B, T, C, H, W) of one camera, changed as `drawn` (B,) says."""
