"""Recording what layers are called with while a model, not yet quantized, answers requests."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import nn

from gr00t.quantization.statistics import InputRecorder, InputStatistics


class InputRecording:
    """What was recorded of each layer so far.

    Attributes:
        requests: calls of the model that have ended.
    """

    def __init__(self, layers: Mapping[str, nn.Linear]) -> None:
        self.requests = 0
        self._recorders = {name: InputRecorder(layer.in_features) for name, layer in layers.items()}
        self._called: set[str] = set()

    def statistics(self) -> dict[str, InputStatistics]:
        """Return the statistics of every layer, by name.

        Raises:
            ValueError: there are layers that no request has called, so that nothing is known of their inputs.
        """
        idle = [name for name in self._recorders if name not in self._called]
        if idle:
            more = f" and {len(idle) - 3} more" if len(idle) > 3 else ""
            raise ValueError(
                f"{len(idle)} of {len(self._recorders)} selected layers were never called in "
                f"{self.requests} requests: {', '.join(idle[:3])}{more}; leave them out with EXCLUDE"
            )
        return {name: recorder.result() for name, recorder in self._recorders.items()}

    def observer(self, name: str) -> Callable[..., None]:
        """Return the forward pre-hook that records layer `name`."""

        def observe(module: nn.Module, args: tuple[Any, ...]) -> None:
            self._called.add(name)
            try:
                self._recorders[name].observe(args[0])
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error

        return observe

    def end_request(self, *_: Any) -> None:
        """Count a request; a forward hook of the model."""
        self.requests += 1


@contextlib.contextmanager
def record_inputs(model: nn.Module, layers: Mapping[str, nn.Linear]) -> Iterator[InputRecording]:
    """Record the inputs of `layers` of `model` while the context lasts; the answers do not change.

    One request is one call of `model`. All calls of a layer within it are recorded, of every denoising step.

    Args:
        model: whose calls are counted.
        layers: linear layers of it, by name.

    Yields:
        The recording, which stays readable afterwards.
    """
    recording = InputRecording(layers)
    with contextlib.ExitStack() as hooks:
        for name, layer in layers.items():
            hooks.callback(layer.register_forward_pre_hook(recording.observer(name)).remove)
        hooks.callback(model.register_forward_hook(recording.end_request).remove)
        yield recording
