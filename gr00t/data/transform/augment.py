"""Changes of camera frames in training: crops, colours, turns.

A clip is one camera's frames of one sample: all of them change alike, since a scene does not flicker. Ranges
mean what they mean in torchvision, and what is computed is what it computes. Draws come from torch's global
generator, which a training run seeds and stores.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_GRAY = (0.299, 0.587, 0.114)

Range = float | tuple[float, float]


def random_crop(clips: Tensor, scale: float) -> Tensor:
    """Cut a part with `scale` of each side out of clips (B, T, C, H, W), each at a place of its own."""
    height, width = clips.shape[-2:]
    rows, columns = int(height * scale), int(width * scale)
    tops = torch.randint(height - rows + 1, (len(clips),)).tolist()
    lefts = torch.randint(width - columns + 1, (len(clips),)).tolist()
    return torch.stack(
        [
            clip[..., top : top + rows, left : left + columns]
            for clip, top, left in zip(clips, tops, lefts, strict=True)
        ]
    )


def color_jitter(clips: Tensor, brightness: Range, contrast: Range, saturation: Range, hue: Range) -> Tensor:
    """Change brightness, contrast, saturation and hue of clips (B, T, 3, H, W) in [0, 1], in random order.

    Args:
        clips: only read.
        brightness: the factor's range, or half its width around 1.
        contrast: likewise.
        saturation: likewise.
        hue: the shift's range in turns, or half its width around 0.
    """
    factors = [_draw(len(clips), _around(value, 1.0)) for value in (brightness, contrast, saturation)]
    shift = _draw(len(clips), _around(hue, 0.0))
    for step in torch.randperm(4).tolist():
        if step == 0:
            clips = (clips * factors[0]).clamp(0, 1)
        elif step == 1:
            mean = _gray(clips).mean(dim=(-3, -2, -1), keepdim=True)
            clips = torch.lerp(mean, clips, factors[1]).clamp(0, 1)
        elif step == 2:
            clips = torch.lerp(_gray(clips), clips, factors[2]).clamp(0, 1)
        else:
            clips = shift_hue(clips, shift)
    return clips


def shift_hue(clips: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue of clips (..., 3, H, W) in [0, 1] by `turns`, which broadcasts; 1 is a full circle.

    Value and chroma stay. In the hexagonal model a channel is V - C f(h) with a trapezoid f of the hue.
    """
    value, chroma, hue = _hexagon(clips)
    hue = hue + 6.0 * turns
    channels = []
    for offset in (5.0, 3.0, 1.0):
        k = (hue + offset) % 6.0
        channels.append(value - chroma * torch.minimum(k, 4.0 - k).clamp(0.0, 1.0))
    return torch.cat(channels, dim=-3)


def grayscale(clips: Tensor) -> Tensor:
    """Luma of clips (..., 3, H, W) in all three channels."""
    return _gray(clips).expand_as(clips)


def posterize(clips: Tensor, bits: int) -> Tensor:
    """Keep the `bits` highest bits of clips in [0, 1]: of a byte b / 255, (b & mask) / 256."""
    levels = 1 << bits
    return (clips * levels).floor().clamp(0, levels - 1) / levels


def rotate(clip: Tensor, degrees: float, interpolation: str, border: str = "black") -> Tensor:
    """Turn a clip (T, C, H, W) counterclockwise around its centre; the size stays.

    Args:
        clip: only read. Multiples of 90 degrees are exact where the turned frame fits.
        degrees: of any size.
        interpolation: of torch's grid_sample: "nearest", "bilinear" or "bicubic".
        border: what is outside: "black", or "mirror" without the edge itself.
    """
    quarters, rest = divmod(degrees % 360, 90)
    height, width = clip.shape[-2:]
    if rest == 0 and (quarters % 2 == 0 or height == width):
        return torch.rot90(clip, int(quarters), (-2, -1))
    angle = math.radians(degrees)
    # Where each pixel comes from, in pixels from the centre; rows count downward.
    y = (torch.arange(height) - (height - 1) / 2)[:, None]
    x = (torch.arange(width) - (width - 1) / 2)[None, :]
    from_x = math.cos(angle) * x - math.sin(angle) * y
    from_y = math.sin(angle) * x + math.cos(angle) * y
    mirrored = border == "mirror"
    # grid_sample mirrors at the middle of the outer pixels where its corners are these.
    sides = (width - 1, height - 1) if mirrored else (width, height)
    grid = torch.stack([2 * from_x / sides[0], 2 * from_y / sides[1]], dim=-1).expand(len(clip), -1, -1, -1)
    # With a channel of ones: how much of each pixel comes from within the frame.
    covered = torch.cat([clip, torch.ones_like(clip[:, :1])], dim=1)
    turned = torch.nn.functional.grid_sample(
        covered,
        grid.to(clip),
        mode=interpolation,
        padding_mode="reflection" if mirrored else "zeros",
        align_corners=mirrored,
    )
    picture, inside = turned[:, :-1], turned[:, -1:]
    return picture if mirrored or interpolation == "nearest" else picture * inside


def _hexagon(clips: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Value, chroma and hue (in sixths of a turn) of RGB, each (..., 1, H, W)."""
    red, green, blue = clips.split(1, dim=-3)
    value = clips.amax(dim=-3, keepdim=True)
    chroma = value - clips.amin(dim=-3, keepdim=True)
    divisor = torch.where(chroma == 0, torch.ones_like(chroma), chroma)
    hue = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, 2.0 + (blue - red) / divisor, 4.0 + (red - green) / divisor),
    )
    return value, chroma, hue


def _gray(clips: Tensor) -> Tensor:
    red, green, blue = clips.split(1, dim=-3)
    return _GRAY[0] * red + _GRAY[1] * green + _GRAY[2] * blue


def _around(value: Range, centre: float) -> tuple[float, float]:
    if isinstance(value, tuple):
        return value
    return max(0.0, centre - value) if centre else -value, centre + value


def _draw(count: int, bounds: tuple[float, float]) -> Tensor:
    low, high = bounds
    return (low + (high - low) * torch.rand(count))[:, None, None, None, None]
