"""Two of OpenCV's ways to resize that torch does not have: areas, and Lanczos with eight taps.

Both are separable: rows and columns each by a matrix of weights that sum to 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_TAPS = 8


def resize_by_area(frames: Tensor, height: int, width: int) -> Tensor:
    """Resize frames (..., H, W): each new pixel is the mean over the part of the frame that it covers."""
    rows, columns = _area_weights(frames.shape[-2], height), _area_weights(frames.shape[-1], width)
    return rows @ frames @ columns.T


def resize_by_lanczos(frames: Tensor, height: int, width: int) -> Tensor:
    """Resize frames (..., H, W) by sinc(x) sinc(x / 4) over eight pixels, not widened for shrinking."""
    rows, columns = _lanczos_weights(frames.shape[-2], height), _lanczos_weights(frames.shape[-1], width)
    return rows @ frames @ columns.T


def _area_weights(size: int, new: int) -> Tensor:
    scale = size / new
    if scale < 1:
        return _enlarging_weights(size, new)
    edges = torch.arange(new + 1, dtype=torch.float64) * scale
    pixels = torch.arange(size, dtype=torch.float64)
    covered = torch.minimum(edges[1:, None], pixels + 1) - torch.maximum(edges[:-1, None], pixels)
    return (covered.clamp(min=0) / scale).float()


def _enlarging_weights(size: int, new: int) -> Tensor:
    """Where a new pixel covers less than an old one: a mean of the two old ones that it touches."""
    weights = torch.zeros(new, size)
    for place in range(new):
        first = math.floor(place * size / new)
        share = (place + 1) - (first + 1) * new / size
        share = share - math.floor(share) if share > 0 else 0.0
        weights[place, min(first, size - 1)] += 1 - share
        weights[place, min(first + 1, size - 1)] += share
    return weights


def _lanczos_weights(size: int, new: int) -> Tensor:
    weights = torch.zeros(new, size, dtype=torch.float64)
    centres = (torch.arange(new, dtype=torch.float64) + 0.5) * size / new - 0.5
    first = centres.floor().long() - (_TAPS // 2 - 1)
    for tap in range(_TAPS):
        distance = centres - (first + tap)
        value = torch.sinc(distance) * torch.sinc(distance / (_TAPS // 2))
        value[distance.abs() >= _TAPS // 2] = 0.0
        # Beyond the edge its pixels are repeated.
        weights.scatter_add_(1, (first + tap).clamp(0, size - 1)[:, None], value[:, None])
    return (weights / weights.sum(dim=1, keepdim=True)).float()
