"""From a layer's float weight to codes and scales: transformed, static scales folded in, and rounded."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from gr00t.quantization.duquant_preprocess import Transforms
from gr00t.quantization.kernels.feedback import round_with_feedback
from gr00t.quantization.kernels.search import quantize_weight
from gr00t.quantization.numerics.hessian import factorize
from gr00t.quantization.numerics.quantizers import QuantizedWeight, quantize, scale_for
from gr00t.quantization.settings.spec import LinearSpec

# Weights are transformed in runs of rows whose temporaries stay in the cache: a third of the time.
_CHUNK_ELEMENTS = 1 << 18


def round_to_nearest(
    source: Tensor, spec: LinearSpec, transforms: Transforms, act_scale: Tensor | None
) -> Iterator[tuple[slice, QuantizedWeight]]:
    """Yield runs of rows of a weight (N, K) quantized, each weight by itself.

    Args:
        source: the float weight; only read.
        spec: of the layer, whose weight has a format.
        transforms: of the layer.
        act_scale: (K,) static activation scales to fold in, or None.
    """
    assert spec.weight is not None
    for rows, fused in _fused(source, spec, transforms, act_scale):
        yield rows, quantize_weight(fused, spec.weight, spec.block_in, spec.weight_scale)


def round_by_inputs(
    source: Tensor, spec: LinearSpec, transforms: Transforms, act_scale: Tensor | None, h: Tensor
) -> tuple[QuantizedWeight, float]:
    """Quantize a weight (N, K) with error feedback; return it, and the damping that its inputs took.

    Args:
        source: the float weight; only read.
        spec: of the layer, whose weight has a format.
        transforms: of the layer.
        act_scale: (K,) static activation scales to fold in, or None.
        h: (M, K) float32, inputs in the basis that is quantized.

    Raises:
        ValueError: the inputs hold inf or nan.
    """
    assert spec.weight is not None
    factor = factorize(_as_multiplied(h, spec, act_scale))
    whole = torch.empty(source.shape, device=source.device)
    for rows, fused in _fused(source, spec, transforms, act_scale):
        whole[rows] = fused
    found = round_with_feedback(whole, factor, spec.weight, spec.block_in, spec.weight_scale)
    return found, factor.damping


def _fused(
    source: Tensor, spec: LinearSpec, transforms: Transforms, act_scale: Tensor | None
) -> Iterator[tuple[slice, Tensor]]:
    """Runs of rows of the weight as it is rounded, float64."""
    block = spec.block_out
    rows = max(1, _CHUNK_ELEMENTS // spec.in_features // block) * block
    for first in range(0, spec.out_features, rows):
        fused = transforms.fuse(source[first : first + rows], first)
        if act_scale is not None:
            fused *= act_scale
        yield slice(first, first + rows), fused


def _as_multiplied(h: Tensor, spec: LinearSpec, act_scale: Tensor | None) -> Tensor:
    """Inputs (M, K) float32 as the weight is multiplied by them: quantized, less scales folded into it."""
    fmt = spec.activation
    if fmt is None:
        return h
    if act_scale is not None:
        return quantize(h, act_scale, fmt).float()
    scale = scale_for(h.abs().amax(dim=1, keepdim=True), fmt)
    return quantize(h, scale, fmt) * scale
