"""Camera frames: to float, crop, resize, colours, back to bytes.

In eval mode the steps reproduce GR00T N1.5's numbers, of which two are easy to miss: the crop's offset is
rounded half to even, and the way back to uint8 truncates, so about half of all pixels differ by one level
from rounding. In train mode crop and colours are random (`augment.py`).

Frames may have any resolution with the aspect ratio of the training set, not only its resolution.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor

from gr00t.data.errors import ObservationError
from gr00t.data.schema import VideoMetadata
from gr00t.data.transform.augment import color_jitter, random_crop
from gr00t.data.transform.base import ModalityTransform, refuse_training
from gr00t.spelling import did_you_mean

Mode = Literal["train", "eval"]


class VideoTransform(ModalityTransform):
    """A function on frames (N, C, H, W), applied to every camera of `apply_to` by itself.

    A subclass overrides `get_transform`; it returns None where the transform is an identity.
    """

    backend: str = Field(
        default="torchvision", description="whose numbers are reproduced; only torchvision's are"
    )

    @field_validator("backend")
    @classmethod
    def _known_backend(cls, backend: str) -> str:
        if backend != "torchvision":
            raise ValueError(f"backend {backend!r}: only 'torchvision' is supported")
        return backend

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
            data[key] = flat.reshape(*frames.shape[:-3], *flat.shape[-3:])
        return data

    def _frames(self, data: dict[str, Any], key: str) -> Any:
        if key not in data:
            raise ObservationError(f"no {key!r} in the observation; {did_you_mean(key, data)}")
        self.check(key, data[key])
        return data[key]

    def check(self, key: str, frames: Any) -> None:
        """Raise an ObservationError if the frames of one camera cannot be transformed."""
        if not isinstance(frames, Tensor):
            raise ObservationError(
                f"{key}: {type(self).__name__} comes after VideoToTensor and before VideoToNumpy"
            )


def check_frames(key: str, frames: Any, metadata: VideoMetadata | None) -> None:
    """Check frames (..., H, W, C) of one camera as a client sends them.

    Raises:
        ObservationError: not a uint8 array of this form, or not the aspect ratio of the metadata.
    """
    if not isinstance(frames, np.ndarray) or frames.dtype != np.uint8:
        got = f"dtype {frames.dtype}" if isinstance(frames, np.ndarray) else type(frames).__name__
        raise ObservationError(f"{key}: expected a numpy array of dtype uint8, got {got}")
    channels = metadata.channels if metadata is not None else 3
    if frames.ndim not in (4, 5) or frames.shape[-1] != channels or 0 in frames.shape:
        raise ObservationError(
            f"{key}: expected shape (T, H, W, {channels}) or (B, T, H, W, {channels}), got {frames.shape}"
        )
    if metadata is None:
        return
    height, width = frames.shape[-3:-1]
    want_width, want_height = metadata.resolution
    # Within the rounding to whole pixels of the wanted aspect ratio, whichever side was computed from the
    # other.
    if (
        abs(width - height * want_width / want_height) >= 1
        and abs(height - width * want_height / want_width) >= 1
    ):
        raise ObservationError(
            f"{key}: expected frames of {want_width}x{want_height} pixels (width x height) or another "
            f"resolution of that aspect ratio, got {width}x{height}"
        )


class VideoToTensor(VideoTransform):
    """Bytes (..., H, W, C) to float32 in [0, 1], (..., C, H, W)."""

    def get_transform(self, mode: Mode = "train") -> Callable[[np.ndarray], Tensor]:
        """Return the same function for both modes."""
        return self.to_tensor

    def check(self, key: str, frames: Any) -> None:
        """Check dtype, shape and aspect ratio."""
        metadata = self._dataset_metadata
        check_frames(key, frames, metadata.entry(metadata.modalities, key) if metadata is not None else None)

    @staticmethod
    def to_tensor(frames: np.ndarray) -> Tensor:
        """Convert frames (N, H, W, C) uint8 to (N, C, H, W) float32."""
        # A copy: frames that a simulator flipped have negative strides, and those from the wire are read-
        # only. Channels first while they are bytes: resizing planes takes two thirds of the time.
        planes = torch.from_numpy(frames.transpose(0, 3, 1, 2).copy())
        return planes.to(torch.float32).div_(255.0)


class VideoToNumpy(VideoTransform):
    """Float32 in [0, 1], (..., C, H, W), to bytes (..., H, W, C)."""

    def get_transform(self, mode: Mode = "train") -> Callable[[Tensor], np.ndarray]:
        """Return the same function for both modes."""
        return self.to_numpy

    @staticmethod
    def to_numpy(frames: Tensor) -> np.ndarray:
        """Convert frames (N, C, H, W) to (N, H, W, C) uint8, truncating."""
        return (frames.permute(0, 2, 3, 1) * 255).to(torch.uint8).cpu().numpy()


class RandomVideoTransform(VideoTransform):
    """A transform that in train mode draws anew for every clip; in eval mode it is a fixed one."""

    def apply(self, data: dict[str, Any]) -> dict[str, Any]:
        """Transform the frames (..., T, C, H, W) of every camera; T frames of a sample change alike."""
        if not self.training:
            return super().apply(data)
        for key in self.apply_to:
            frames = self._frames(data, key)
            clips = self.random_clips(frames.reshape(-1, *frames.shape[-4:]))
            data[key] = clips.reshape(*frames.shape[:-4], *clips.shape[-4:])
        return data

    def random_clips(self, clips: Tensor) -> Tensor:
        """Change clips (B, T, C, H, W) at random.

        Raises:
            NotImplementedError: this one is known only to be left out in eval mode.
        """
        refuse_training(self)


class VideoCrop(RandomVideoTransform):
    """The centre, `scale` of each side; in training a random part of that size."""

    height: int | None = Field(
        default=None, description="height of the frames that come in, if it is to be checked"
    )
    width: int | None = Field(
        default=None, description="width of the frames that come in, if it is to be checked"
    )
    scale: float = Field(..., gt=0, le=1, description="side of the crop / side of the frame")

    def get_transform(self, mode: Mode = "train") -> Callable[[Tensor], Tensor]:
        """Return the centre crop."""
        return self._centre

    def random_clips(self, clips: Tensor) -> Tensor:
        """Cut a random part out of each clip."""
        return random_crop(clips, self.scale)

    def check(self, key: str, frames: Any) -> None:
        """Check the resolution where the config names one."""
        super().check(key, frames)
        height, width = frames.shape[-2:]
        if (self.height or height, self.width or width) != (height, width):
            raise ObservationError(f"{key}: expected {self.width}x{self.height} pixels, got {width}x{height}")

    def _centre(self, frames: Tensor) -> Tensor:
        height, width = frames.shape[-2:]
        crop_height, crop_width = int(height * self.scale), int(width * self.scale)
        # Python's round goes half to even: 256 -> 243 starts at 6, not 7.
        top, left = round((height - crop_height) / 2.0), round((width - crop_width) / 2.0)
        return frames[..., top : top + crop_height, left : left + crop_width]


class VideoResize(VideoTransform):
    """To a fixed size, antialiased."""

    height: int = Field(..., gt=0, description="height of the frames that go out")
    width: int = Field(..., gt=0, description="width of the frames that go out")
    interpolation: str = Field(default="linear", description="linear, cubic, nearest or nearest_exact")
    antialias: bool = Field(default=True, description="low-pass before shrinking (linear and cubic)")

    _MODES: ClassVar[dict[str, str]] = {
        "linear": "bilinear",
        "cubic": "bicubic",
        "nearest": "nearest",
        "nearest_exact": "nearest-exact",
    }

    @field_validator("interpolation")
    @classmethod
    def _known_interpolation(cls, interpolation: str) -> str:
        if interpolation not in cls._MODES:
            raise ValueError(f"interpolation {interpolation!r}: {did_you_mean(interpolation, cls._MODES)}")
        return interpolation

    def get_transform(self, mode: Mode = "train") -> Callable[[Tensor], Tensor]:
        """Return the same function for both modes."""
        return self._resize

    def _resize(self, frames: Tensor) -> Tensor:
        size, mode = (self.height, self.width), self._MODES[self.interpolation]
        if frames.shape[-2:] == size:
            return frames
        if mode.startswith("nearest"):
            return torch.nn.functional.interpolate(frames, size, mode=mode)
        out = torch.nn.functional.interpolate(
            frames, size, mode=mode, align_corners=False, antialias=self.antialias
        )
        # Bicubic overshoots, and bytes cannot hold what is outside [0, 1].
        return out.clamp(0, 1) if mode == "bicubic" else out


class _Augmentation(RandomVideoTransform):
    """A random change of the frames in training; an identity in eval mode."""

    def get_transform(self, mode: Mode = "train") -> None:
        """Return None: nothing happens in eval mode."""


class VideoColorJitter(_Augmentation):
    """Random colours in training; eval mode: identity."""

    brightness: float | tuple[float, float] = Field(..., description="range of the brightness factor")
    contrast: float | tuple[float, float] = Field(..., description="range of the contrast factor")
    saturation: float | tuple[float, float] = Field(..., description="range of the saturation factor")
    hue: float | tuple[float, float] = Field(..., description="range of the hue shift")

    def random_clips(self, clips: Tensor) -> Tensor:
        """Change the colours of each clip."""
        return color_jitter(clips, self.brightness, self.contrast, self.saturation, self.hue)


class VideoRandomRotation(_Augmentation):
    """Random rotation; eval mode: identity."""

    degrees: float | tuple[float, float] = Field(..., description="range of the angle")
    interpolation: str = Field(default="linear", description="as in VideoResize")


class VideoHorizontalFlip(_Augmentation):
    """Random mirroring; eval mode: identity."""

    p: float = Field(..., description="probability")


class VideoGrayscale(_Augmentation):
    """Random loss of colour; eval mode: identity."""

    p: float = Field(..., description="probability")


class VideoRandomGrayscale(_Augmentation):
    """Random loss of colour; eval mode: identity."""

    p: float = Field(..., description="probability")


class VideoRandomPosterize(_Augmentation):
    """Random loss of bits; eval mode: identity."""

    bits: int = Field(..., description="bits that are kept")
    p: float = Field(..., description="probability")
