"""What our recipes are compared with and cannot be: no integer GEMM computes it."""

from __future__ import annotations

import torch
from torch import Tensor

from gr00t.quantization.calibration.observers import PooledPercentile
from gr00t.quantization.duquant_preprocess import Transforms
from gr00t.quantization.numerics.quantizers import quantize, quantize_weight, scale_for
from gr00t.quantization.numerics.rotations import rotate_back
from gr00t.quantization.settings.options import WeightScale
from gr00t.quantization.settings.spec import LinearSpec
from quality_parts.synthetic import Sample

REQUESTS = 32


def float_block_scale(sample: Sample, spec: LinearSpec) -> Tensor:
    """The output for the held-out inputs when every block of the weight has a float32 scale of its own.

    It is searched as ours is. Dynamic activations, no statistics.
    """
    assert spec.weight is not None
    transforms = Transforms.choose(sample.weight, spec)
    fused = transforms.fuse(sample.weight).float()
    # A block of its own is a row of its own: the search over rows then gives every block its scale.
    rows = fused.reshape(-1, spec.block_in)
    found = quantize_weight(rows, spec.weight, spec.block_in, WeightScale.CHANNEL)
    weight = (found.codes * found.row_scale).reshape(fused.shape)
    h = transforms(sample.held_out)
    return _output(_dynamic(h, spec), weight, transforms)


def scale_inside_the_sum(sample: Sample, spec: LinearSpec, percentile: float = 99.9) -> Tensor:
    """The predecessor's arithmetic: a static scale per input channel that is *not* folded into the weight.

    Pooled over all requests; its own code freezes the scale on the first one.
    """
    assert spec.weight is not None
    assert spec.activation is not None
    transforms = Transforms.choose(sample.weight, spec)
    found = quantize_weight(transforms.fuse(sample.weight), spec.weight, spec.block_in, spec.weight_scale)
    observer = PooledPercentile(percentile, REQUESTS)
    for request in sample.recorded.chunk(REQUESTS):
        observer.observe(transforms(request))
        observer.end_request()
    scale = scale_for(observer.result(), spec.activation)
    h = transforms(sample.held_out)
    return _output(quantize(h, scale, spec.activation) * scale, found.codes * found.row_scale, transforms)


def _dynamic(h: Tensor, spec: LinearSpec) -> Tensor:
    if spec.activation is None:
        return h
    scale = scale_for(h.abs().amax(dim=1, keepdim=True), spec.activation)
    return quantize(h, scale, spec.activation) * scale


def _output(h: Tensor, weight: Tensor, transforms: Transforms) -> Tensor:
    y = torch.nn.functional.linear(h.float(), weight.float())
    return y if transforms.rotation_out is None else rotate_back(y, transforms.rotation_out)
