"""Layers with the outliers that trained transformers have, made from a seed.

Weights: Gaussian, times a log-normal factor per output row (sigma 0.5), times 10 in 2 % of the input columns.
Inputs: Gaussian, times 5 to 30 (log-uniform) in 2 % of the channels, which are others than the weight's heavy
columns but for chance; and in every 256th token two fixed channels of 100 times the usual size, the massive
activations of arXiv 2402.17762.

Correlated inputs are made from independent ones whose i-th has the variance 1 / i, rotated at random, before
their channels are made loud. Independent channels leave error feedback nothing to make up by.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from gr00t.quantization.numerics.rotations import rotate

OUTLIER_SHARE = 0.02
HEAVY_COLUMN = 10.0
ROW_SIGMA = 0.5
OUTLIER_CHANNEL = (5.0, 30.0)
MASSIVE = 100.0
MASSIVE_CHANNELS = 2
TOKENS_PER_MASSIVE = 256
# Channels that are mixed at once, twice, with all of them shuffled in between.
_MIXED = 512


class Sample(NamedTuple):
    """A weight (N, K) and inputs to record (M, K) and to evaluate with (M, K), float32."""

    weight: Tensor
    recorded: Tensor
    held_out: Tensor


def outlier_layer(
    in_features: int, out_features: int, tokens: int, seed: int, *, is_correlated: bool = False
) -> Sample:
    """Return a layer with outliers; `tokens` inputs, half of them to record and half held out."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(out_features, in_features, generator=generator)
    weight *= (ROW_SIGMA * torch.randn(out_features, 1, generator=generator)).exp()
    weight[:, _some(in_features, generator)] *= HEAVY_COLUMN

    x = torch.randn(tokens, in_features, generator=generator)
    if is_correlated:
        x = _correlate(x, generator)
    channels = _some(in_features, generator)
    low, high = OUTLIER_CHANNEL
    x[:, channels] *= low * (math.log(high / low) * torch.rand(len(channels), generator=generator)).exp()
    massive = torch.randperm(in_features, generator=generator)[:MASSIVE_CHANNELS]
    x[::TOKENS_PER_MASSIVE, massive] = MASSIVE * x[::TOKENS_PER_MASSIVE, massive].sign()
    recorded, held_out = x.chunk(2)
    return Sample(weight, recorded, held_out)


def _correlate(x: Tensor, generator: torch.Generator) -> Tensor:
    """Give independent channels a spectrum of 1 / i of the same mean, and a random basis."""
    channels = x.shape[1]
    variance = 1 / torch.arange(1.0, channels + 1)
    x = x * (variance / variance.mean()).sqrt()
    for _ in range(2):
        x = x[:, torch.randperm(channels, generator=generator)]
        mixing = torch.linalg.qr(torch.randn(channels // _MIXED, _MIXED, _MIXED, generator=generator))[0]
        x = rotate(x, mixing)
    return x


def _some(channels: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(channels, generator=generator)[: max(1, round(OUTLIER_SHARE * channels))]
