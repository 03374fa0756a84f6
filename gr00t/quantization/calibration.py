"""Online calibration: the first requests are pooled, then every activation scale is fixed at once.

A request is one call of the model that was handed in, counted by a forward hook on it, so a layer that a
denoising loop calls eight times a request pools all eight. Until the last request the layers quantize
activations dynamically, per token: answers are valid from the first one on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from torch import nn

from gr00t.quantization.duquant_layers import DuQuantLinear
from gr00t.quantization.observers import PooledPercentile

logger = logging.getLogger(__name__)


class OnlineCalibration:
    """Pools `requests` calls of `model` and then fixes the static scales of `layers`.

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
        self.seen = 0
        self._layers = layers
        self._on_finished = on_finished
        self._observers = {name: PooledPercentile(percentile, requests) for name in layers}
        for name, layer in layers.items():
            layer.start_calibration(self._observers[name])
        self._hook = model.register_forward_hook(self._end_request)

    def _end_request(self, model: nn.Module, inputs: Any, output: Any) -> None:
        self.seen += 1
        for observer in self._observers.values():
            observer.end_request()
        if self.seen < self.requests:
            return
        self._hook.remove()
        fixed = [name for name, layer in self._layers.items() if layer.finish_calibration()]
        idle = [name for name in self._layers if name not in fixed]
        logger.info(
            "[GR00T-DUQUANT] Activation scales of %d layers fixed from %d pooled requests and folded into "
            "the weights; float weights released",
            len(fixed),
            self.seen,
        )
        if idle:
            logger.warning(
                "[GR00T-DUQUANT] %d layers were never called and keep dynamic scales: %s",
                len(idle),
                ", ".join(idle),
            )
        self._on_finished(fixed)
