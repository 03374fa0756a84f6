"""Online calibration: the first requests are pooled, then every activation scale is fixed at once.

A request is one call of the model that was handed in, counted by a forward hook on it, so a layer that a
denoising loop calls eight times a request pools all eight. Requests that cannot be believed are left out and
do not count (`screening`). Until the last request the layers quantize activations dynamically, per token:
answers are valid from the first one on, and stay so where no scales are ever fixed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from gr00t.quantization.calibration.layer_calibration import LayerCalibration
from gr00t.quantization.calibration.observers import PooledPercentile, RequestObserver
from gr00t.quantization.calibration.screening import Screening
from gr00t.quantization.duquant_layers import DuQuantLinear
from gr00t.quantization.numerics.statistics import InputsLostError

logger = logging.getLogger(__name__)


class OnlineCalibration:
    """Pools `requests` calls of `model` that agree and then fixes the static scales of `layers`.

    Args:
        model: whose calls are counted.
        layers: by name; those that wait for static scales.
        requests: how many calls to pool.
        percentile: of |x|, what a scale covers.
        on_finished: called once when all scales are fixed, with the names of the layers that have them.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: dict[str, DuQuantLinear],
        requests: int,
        percentile: float,
        on_finished: Callable[[list[str]], None],
    ) -> None:
        self.requests = requests
        self._on_finished = on_finished
        self._observers = {name: RequestObserver(percentile, requests) for name in layers}
        self._screening = Screening(lambda: {name: PooledPercentile(percentile, requests) for name in layers})
        self._calibrations = {
            name: LayerCalibration(layer, self._observers[name]) for name, layer in layers.items()
        }
        self._hooks = [
            model.register_forward_pre_hook(self._begin_request),
            model.register_forward_hook(self._end_request),
        ]

    def _begin_request(self, *_: Any) -> None:
        for observer in self._observers.values():
            observer.begin_request()

    def _end_request(self, *_: Any) -> None:
        called = {name: found.peak for name, found in self._observers.items() if found.peak is not None}
        peaks = torch.stack(list(called.values())).tolist() if called else []
        group = self._screening.place(dict(zip(called, peaks, strict=True)))
        if group is None:
            return
        for name, pool in group.gathered.items():
            pool.absorb(self._observers[name])
            pool.end_request()
        if group.members < self.requests:
            return
        for hook in self._hooks:
            hook.remove()
        fixed: list[str] = []
        idle: list[str] = []
        for name, calibration in self._calibrations.items():
            try:
                (fixed if calibration.finish(group.gathered[name]) else idle).append(name)
            except InputsLostError as error:
                logger.warning(
                    "[GR00T-DUQUANT] %s keeps dynamic scales: its recorded inputs cannot be read (%s)",
                    name,
                    error,
                )
        logger.info(
            "[GR00T-DUQUANT] Activation scales of %d layers fixed from %d pooled requests and folded into "
            "the weights; float weights released",
            len(fixed),
            group.members,
        )
        if self._screening.left_out:
            logger.warning(
                "[GR00T-DUQUANT] %d other requests were left out of the activation scales: their inputs are "
                "not finite, or far from those of the pooled ones",
                self._screening.left_out,
            )
        if idle:
            logger.warning(
                "[GR00T-DUQUANT] %d layers were never called and keep dynamic scales: %s",
                len(idle),
                ", ".join(idle),
            )
        self._on_finished(fixed)
