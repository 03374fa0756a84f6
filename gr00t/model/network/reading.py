"""What cross-attention reads: all features of a prompt, or those of its text or its images alone."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gr00t.model.network.attention import key_mask


class Reading(NamedTuple):
    """Features (B, K, E), and the mask (B, 1, 1, K), True where one may be attended to; None: everywhere."""

    features: Tensor
    mask: Tensor | None


def read_all(features: Tensor, valid: Tensor | None) -> Reading:
    """All features (B, T, E) but those of the padding, where `valid` (B, T) is False."""
    return Reading(features, key_mask(valid))


def read_text_and_images(features: Tensor, valid: Tensor | None, images: Tensor) -> tuple[Reading, Reading]:
    """The features of the text, then those of the images, each without the rows of the other.

    Args:
        features: (B, T, E).
        valid: (B, T) bool, False on padding; None: no padding.
        images: (B, T) bool, True on the tokens of images.
    """
    text = ~images if valid is None else ~images & valid
    return _rows(features, text), _rows(features, images if valid is None else images & valid)


def _rows(features: Tensor, wanted: Tensor) -> Reading:
    """The rows of each sample that are wanted, in their order; as many as the sample has that has most."""
    counts = wanted.sum(dim=1)
    most = int(counts.max())
    rows = wanted.int().argsort(dim=1, descending=True, stable=True)[:, :most]
    picked = features.gather(1, rows.unsqueeze(-1).expand(-1, -1, features.shape[-1]))
    there = torch.arange(most, device=counts.device) < counts.unsqueeze(1)
    return Reading(picked, None if there.all() else key_mask(there))
