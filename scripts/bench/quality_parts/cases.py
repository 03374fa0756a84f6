"""Models with the weights and inputs of their layers, and how well a layer's output survives a recipe."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gr00t.quantization.calibration.recording import record_inputs
from gr00t.quantization.numerics.metrics import sqnr_db
from gr00t.quantization.numerics.statistics import InputStatistics
from quality_parts.synthetic import Sample, outlier_layer

REQUESTS = 32
# Of a request and layer, kept to round by: all that they have.
_ROWS_PER_REQUEST = 1 << 20


class Case(NamedTuple):
    """A float model, requests to record and calibrate with, and what its layers' inputs are.

    `samples` and `statistics` are by layer name. Recorded inputs come from `requests`, held-out ones do not.
    """

    model: nn.Module
    requests: Sequence[Tensor]
    samples: dict[str, Sample]
    statistics: dict[str, InputStatistics]


def synthetic_case(
    in_features: int, out_features: int, tokens: int, seed: int, *, is_correlated: bool = False
) -> Case:
    """Return one layer with outliers; half of its `tokens` are cut into 32 requests."""
    sample = outlier_layer(in_features, out_features, tokens, seed, is_correlated=is_correlated)
    linear = nn.Linear(in_features, out_features, bias=False, device="meta")
    linear.weight = nn.Parameter(sample.weight, requires_grad=False)
    model = nn.Sequential(OrderedDict(layer=linear))
    requests = sample.recorded.chunk(REQUESTS)
    return Case(model, requests, {"layer": sample}, _statistics(model, {"layer": linear}, requests))


def recorded_case(model: nn.Module, requests: Sequence[Tensor], held_out: Sequence[Tensor]) -> Case:
    """Return a model whose layers' inputs are what they are when it answers `requests` and `held_out`."""
    layers = {name: layer for name, layer in model.named_modules() if type(layer) is nn.Linear}
    recorded, unseen = (_inputs(copy.deepcopy(model), part) for part in (requests, held_out))
    samples = {
        name: Sample(layer.weight.detach(), recorded[name], unseen[name]) for name, layer in layers.items()
    }
    return Case(model, requests, samples, _statistics(model, layers, requests))


def layer_sqnr(case: Case, quantized: nn.Module) -> dict[str, float]:
    """Return each layer's output SQNR in dB on its held-out inputs as the float model has them; less bias."""
    found = {}
    for name, sample in case.samples.items():
        layer = quantized.get_submodule(name)
        y = layer(sample.held_out)
        found[name] = output_sqnr(sample, y if layer.bias is None else y - layer.bias)
    return found


def output_sqnr(sample: Sample, y: Tensor) -> float:
    """Return the SQNR of `y` (M, N), an answer to the held-out inputs without bias."""
    return sqnr_db(sample.held_out @ sample.weight.T, y)


def _statistics(
    model: nn.Module, layers: dict[str, nn.Linear], requests: Sequence[Tensor]
) -> dict[str, InputStatistics]:
    with record_inputs(model, layers, _ROWS_PER_REQUEST) as recording:
        for request in requests:
            model(request)
    return recording.statistics()


def _inputs(model: nn.Module, requests: Sequence[Tensor]) -> dict[str, Tensor]:
    """The input rows (M, K) of every layer while `model`, which keeps the hooks, answers `requests`."""
    seen: dict[str, list[Tensor]] = {}

    def remember(name: str, x: Tensor) -> None:
        seen.setdefault(name, []).append(x.flatten(0, -2))

    for name, layer in model.named_modules():
        if type(layer) is nn.Linear:
            layer.register_forward_pre_hook(lambda _, inputs, name=name: remember(name, inputs[0]))
    for request in requests:
        model(request)
    return {name: torch.cat(parts) for name, parts in seen.items()}
