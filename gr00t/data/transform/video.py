"""Camera frames: to float, crop, resize, colours, back to bytes.

In eval mode the steps reproduce GR00T N1.5's numbers, of which two are easy to miss: the crop's offset is
rounded half to even, and the way back to uint8 truncates, so about half of all pixels differ by one level
from rounding. In train mode crop and colours are random (`augment.py`).

Frames may have any resolution with the aspect ratio of the training set, not only its resolution.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from gr00t.data.errors import ObservationError
from gr00t.data.schema import VideoMetadata
from gr00t.data.transform.augment import random_crop
from gr00t.data.transform.resample import resize_by_area, resize_by_lanczos
from gr00t.data.transform.video_augment import (
    VideoColorJitter,
    VideoGrayscale,
    VideoHorizontalFlip,
    VideoRandomGrayscale,
    VideoRandomPosterize,
    VideoRandomRotation,
)
from gr00t.data.transform.video_base import Mode, RandomVideoTransform, VideoTransform, planes

# Under the name of this module N1.5 has all of them.
__all__ = [
    "VideoColorJitter",
    "VideoCrop",
    "VideoGrayscale",
    "VideoHorizontalFlip",
    "VideoRandomGrayscale",
    "VideoRandomPosterize",
    "VideoRandomRotation",
    "VideoResize",
    "VideoToNumpy",
    "VideoToTensor",
    "VideoTransform",
    "check_frames",
]


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
            f"resolution of that aspect ratio, got {width}x{height}; send what the camera gives, which is "
            "resized here, or put a transform that restores the aspect ratio before VideoToTensor in the "
            "data config"
        )


class _Conversion(VideoTransform):
    """Between bytes and tensors: of no use where frames stay bytes."""

    @field_validator("backend")
    @classmethod
    def _of_tensors(cls, backend: str) -> str:
        if backend != "torchvision":
            raise ValueError(f"only 'torchvision' has tensors, got {backend!r}; leave this transform out")
        return backend


class VideoToTensor(_Conversion):
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
        return planes(frames)


class VideoToNumpy(_Conversion):
    """Float32 in [0, 1], (..., C, H, W), to bytes (..., H, W, C)."""

    def get_transform(self, mode: Mode = "train") -> Callable[[Tensor], np.ndarray]:
        """Return the same function for both modes."""
        return self.to_numpy

    @staticmethod
    def to_numpy(frames: Tensor) -> np.ndarray:
        """Convert frames (N, C, H, W) to (N, H, W, C) uint8, truncating."""
        return (frames.permute(0, 2, 3, 1) * 255).to(torch.uint8).cpu().numpy()


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
        height, width = frames.shape[-3:-1] if self.takes_bytes else frames.shape[-2:]
        if (self.height or height, self.width or width) != (height, width):
            raise ObservationError(f"{key}: expected {self.width}x{self.height} pixels, got {width}x{height}")

    def _centre(self, frames: Tensor) -> Tensor:
        height, width = frames.shape[-2:]
        crop_height, crop_width = int(height * self.scale), int(width * self.scale)
        above, beside = height - crop_height, width - crop_width
        # torchvision rounds half to even: 256 -> 243 starts at 6, not 7. albumentations rounds down.
        top, left = (above // 2, beside // 2) if self.takes_bytes else (round(above / 2), round(beside / 2))
        return frames[..., top : top + crop_height, left : left + crop_width]


class VideoResize(VideoTransform):
    """To a fixed size: antialiased, or with backend "albumentations" as OpenCV does it, which never is."""

    height: int = Field(..., gt=0, description="height of the frames that go out")
    width: int = Field(..., gt=0, description="width of the frames that go out")
    interpolation: str = Field(
        default="linear",
        description="linear, cubic, nearest, nearest_exact; albumentations: area, lanczos4, linear_exact",
    )
    antialias: bool = Field(default=True, description="low-pass before shrinking (linear and cubic)")

    _MODES: ClassVar[dict[str, str]] = {
        "linear": "bilinear",
        "cubic": "bicubic",
        "nearest": "nearest",
        "nearest_exact": "nearest-exact",
    }
    _OPENCV_MODES: ClassVar[dict[str, str]] = {
        **_MODES,
        "linear_exact": "bilinear",
        "area": "area",
        "lanczos4": "lanczos4",
    }

    @model_validator(mode="after")
    def _known_interpolation(self) -> VideoResize:
        self.check_interpolation(self.interpolation, self._modes())
        return self

    def get_transform(self, mode: Mode = "train") -> Callable[[Tensor], Tensor]:
        """Return the same function for both modes."""
        return self._resize

    def _resize(self, frames: Tensor) -> Tensor:
        size, mode = (self.height, self.width), self._modes()[self.interpolation]
        if frames.shape[-2:] == size:
            return frames
        if mode == "area":
            return resize_by_area(frames, *size)
        if mode == "lanczos4":
            return resize_by_lanczos(frames, *size).clamp(0, 1)
        if mode.startswith("nearest"):
            return torch.nn.functional.interpolate(frames, size, mode=mode)
        antialias = self.antialias and not self.takes_bytes
        out = torch.nn.functional.interpolate(
            frames, size, mode=mode, align_corners=False, antialias=antialias
        )
        # Bicubic overshoots, and bytes cannot hold what is outside [0, 1].
        return out.clamp(0, 1) if mode == "bicubic" else out

    def _modes(self) -> dict[str, str]:
        return self._OPENCV_MODES if self.takes_bytes else self._MODES
