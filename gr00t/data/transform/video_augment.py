"""Random changes of camera frames in training; all of them are identities in eval mode."""

from __future__ import annotations

from abc import abstractmethod

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from gr00t.data.transform.augment import color_jitter, grayscale, posterize, rotate
from gr00t.data.transform.parameters import Degrees, Factor, HueShift, Probability
from gr00t.data.transform.video_base import Mode, RandomSceneTransform, RandomVideoTransform


class VideoColorJitter(RandomVideoTransform):
    """Brightness, contrast, saturation and hue of each clip, in random order."""

    brightness: Factor = Field(..., description="range of the brightness factor")
    contrast: Factor = Field(..., description="range of the contrast factor")
    saturation: Factor = Field(..., description="range of the saturation factor")
    hue: HueShift = Field(..., description="range of the hue shift, in turns")

    def get_transform(self, mode: Mode = "train") -> None:
        """Return None: nothing happens in eval mode."""

    def random_clips(self, clips: Tensor) -> Tensor:
        """Change the colours of each clip."""
        return color_jitter(clips, self.brightness, self.contrast, self.saturation, self.hue)


class VideoRandomRotation(RandomSceneTransform):
    """A turn around the centre, counterclockwise where it is positive; what comes from outside is black.

    With backend "albumentations" the frame is mirrored beyond its edges instead.
    """

    degrees: Degrees = Field(..., description="range of the angle")
    interpolation: str = Field(default="linear", description="linear or nearest; albumentations: cubic, too")

    @model_validator(mode="after")
    def _known_interpolation(self) -> VideoRandomRotation:
        self.check_interpolation(self.interpolation, self._modes())
        return self

    def draw(self, samples: int) -> Tensor:
        """Draw an angle for each sample, uniformly."""
        low, high = self.degrees if isinstance(self.degrees, tuple) else (-self.degrees, self.degrees)
        return low + (high - low) * torch.rand(samples, dtype=torch.float64)

    def changed(self, clips: Tensor, drawn: Tensor) -> Tensor:
        """Return the clips, each turned by its angle."""
        mode, border = self._modes()[self.interpolation], "mirror" if self.takes_bytes else "black"
        turned = [
            rotate(clip, angle, mode, border) for clip, angle in zip(clips, drawn.tolist(), strict=True)
        ]
        return torch.stack(turned).clamp(0, 1)  # cubic overshoots

    def _modes(self) -> dict[str, str]:
        # torchvision turns tensors by these two only.
        modes = {"linear": "bilinear", "nearest": "nearest"}
        return {**modes, "cubic": "bicubic"} if self.takes_bytes else modes


class _Occasional(RandomSceneTransform):
    """A change that happens to a share of all samples."""

    p: Probability = Field(..., description="probability")

    def draw(self, samples: int) -> Tensor:
        """Draw for each sample whether it changes."""
        return torch.rand(samples) < self.p

    def changed(self, clips: Tensor, drawn: Tensor) -> Tensor:
        """Return the clips, those changed for which it was drawn."""
        return torch.where(drawn[:, None, None, None, None], self.change(clips), clips)

    @abstractmethod
    def change(self, clips: Tensor) -> Tensor:
        """Return all of the clips (B, T, C, H, W) changed."""


class VideoHorizontalFlip(_Occasional):
    """Left and right exchanged. States and actions stay: it suits a scene that means the same mirrored."""

    def change(self, clips: Tensor) -> Tensor:
        """Return the clips mirrored."""
        return clips.flip(-1)


class VideoGrayscale(_Occasional):
    """Luma instead of colours, in three equal channels."""

    def change(self, clips: Tensor) -> Tensor:
        """Return the clips without colour."""
        return grayscale(clips)


class VideoRandomGrayscale(VideoGrayscale):
    """The same under the other name that N1.5 has for it."""


class VideoRandomPosterize(_Occasional):
    """Fewer levels in each channel."""

    bits: int = Field(..., description="bits that are kept of eight")

    @field_validator("bits")
    @classmethod
    def _a_byte_has_eight(cls, bits: int) -> int:
        if not 0 <= bits <= 8:
            raise ValueError(f"expected 0 to 8 bits, got {bits}")
        return bits

    def change(self, clips: Tensor) -> Tensor:
        """Return the clips in 2^bits levels."""
        # torchvision counts them from 0 to 1, albumentations masks bytes: in 255ths, not in 256ths.
        return posterize(clips, self.bits) * (256 / 255 if self.takes_bytes else 1)
