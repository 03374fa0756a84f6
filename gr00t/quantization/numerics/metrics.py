"""Signal to quantization noise, the one figure of merit used throughout."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sqnr_db(reference: Tensor, test: Tensor) -> float:
    """Return `20 log10(||ref|| / ||ref - test||)` in dB, computed in float64; `inf` when equal.

    Args:
        reference: any shape.
        test: same shape.

    Raises:
        ValueError: the shapes differ.
    """
    if reference.shape != test.shape:
        raise ValueError(
            f"SQNR of shapes {tuple(reference.shape)} and {tuple(test.shape)}: they must be equal"
        )
    signal = torch.linalg.vector_norm(reference.double()).item()
    noise = torch.linalg.vector_norm(reference.double() - test.double()).item()
    if noise == 0:
        return math.inf
    return 20 * math.log10(signal / noise) if signal else -math.inf
