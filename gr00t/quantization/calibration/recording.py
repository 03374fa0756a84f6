"""Recording what layers are called with while a model, not yet quantized, answers requests.

Requests that cannot be believed are left out and do not count (`screening`), so what a request was called
with is held until it has ended.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gr00t.quantization.calibration.screening import Group, Screening
from gr00t.quantization.numerics.statistics import (
    InputRecorder,
    InputRows,
    InputStatistics,
    RowsInMemory,
    draw_rows,
)


class InputRecording:
    """What was recorded of each layer so far.

    Attributes:
        latest: the group that the last request was counted to, None where it was left out.
    """

    def __init__(self, layers: Mapping[str, nn.Linear], rows_per_request: int) -> None:
        self._names = list(layers)
        self._rows_per_request = rows_per_request
        self._latest_input: Tensor | None = None
        self._held: dict[str, list[Tensor]] = {}
        self._screening = Screening(
            lambda: {name: InputRecorder(layer.in_features) for name, layer in layers.items()}
        )
        self.latest: Group[dict[str, InputRecorder]] | None = None

    @property
    def requests(self) -> int:
        """Calls of the model that have ended and agree with each other."""
        group = self._screening.largest
        return 0 if group is None else group.members

    @property
    def left_out(self) -> int:
        """Calls of the model that have ended and are not among `requests`."""
        return self._screening.left_out

    def decides(self, group: Group[dict[str, InputRecorder]]) -> bool:
        """Whether `group`, once a `latest`, is the one that `statistics` are of."""
        return group is self._screening.largest

    def statistics(self) -> dict[str, InputStatistics]:
        """Return the statistics of every layer, by name.

        Raises:
            ValueError: all requests were left out, or there are layers that no request has called, so that
                nothing is known of their inputs.
        """
        group = self._screening.largest
        if group is None and self.left_out:
            raise ValueError(
                f"all {self.left_out} requests were left out: the inputs of the layers are not finite, or "
                "too large to be believed"
            )
        recorders = {} if group is None else group.gathered
        idle = [name for name in self._names if name not in recorders or not recorders[name].seen]
        if idle:
            more = f" and {len(idle) - 3} more" if len(idle) > 3 else ""
            raise ValueError(
                f"{len(idle)} of {len(self._names)} selected layers were never called in "
                f"{self.requests} requests: {', '.join(idle[:3])}{more}; leave them out with EXCLUDE"
            )
        shared: dict[tuple[int, ...], InputRows] = {}
        found = {}
        for name, recorder in recorders.items():
            same = tuple(map(id, recorder.kept))
            if same and same not in shared:
                shared[same] = RowsInMemory(torch.cat(recorder.kept))
            found[name] = recorder.result(shared.get(same))
        return found

    def observer(self, name: str) -> Callable[..., None]:
        """Return the forward pre-hook that records layer `name`."""

        def observe(module: nn.Module, args: tuple[Any, ...]) -> None:
            # A copy: what comes after the layer may write over its input. Layers side by side share theirs.
            if not _same(self._latest_input, args[0]):
                self._latest_input = args[0].detach().clone()
            assert self._latest_input is not None
            self._held.setdefault(name, []).append(self._latest_input)

        return observe

    def begin_request(self, *_: Any) -> None:
        """Forget what a request that failed has left; a forward pre-hook of the model."""
        self._held = {}

    def end_request(self, *_: Any) -> None:
        """Record a request, or leave it out; a forward hook of the model."""
        held, self._held, self._latest_input = self._held, {}, None
        called = {name: [x for x in inputs if x.numel()] for name, inputs in held.items()}
        peaks = {
            name: torch.stack([x.abs().amax().float() for x in inputs]).amax()
            for name, inputs in called.items()
            if inputs
        }
        self.latest = self._screening.place({name: float(peak) for name, peak in peaks.items()})
        if self.latest is not None:
            for name, inputs in called.items():
                for x in inputs:
                    self.latest.gathered[name].observe(x)
            if self._rows_per_request:
                self._keep_rows(self.latest.gathered, called)

    def _keep_rows(self, recorders: Mapping[str, InputRecorder], called: Mapping[str, list[Tensor]]) -> None:
        """Draw rows to round by; layers that were called with the same keep the same."""
        drawn: dict[tuple[int, ...], Tensor] = {}
        for name, inputs in called.items():
            same = tuple(map(id, inputs))
            if same and same not in drawn:
                drawn[same] = draw_rows(inputs, self._rows_per_request, self._screening.requests)
            if same:
                recorders[name].kept.append(drawn[same])


def _same(held: Tensor | None, x: Tensor) -> bool:
    return held is not None and held.dtype == x.dtype and held.device == x.device and torch.equal(held, x)


@contextlib.contextmanager
def record_inputs(
    model: nn.Module, layers: Mapping[str, nn.Linear], rows_per_request: int = 0
) -> Iterator[InputRecording]:
    """Record the inputs of `layers` of `model` while the context lasts; the answers do not change.

    One request is one call of `model`. All calls of a layer within it are recorded, of every denoising step.

    Args:
        model: whose calls are counted.
        layers: linear layers of it, by name.
        rows_per_request: rows of each input and request to keep, for error-feedback rounding; 0: none, and
            weights are then rounded to nearest.

    Yields:
        The recording, which stays readable afterwards.
    """
    recording = InputRecording(layers, rows_per_request)
    with contextlib.ExitStack() as hooks:
        for name, layer in layers.items():
            hooks.callback(layer.register_forward_pre_hook(recording.observer(name)).remove)
        hooks.callback(model.register_forward_pre_hook(recording.begin_request).remove)
        hooks.callback(model.register_forward_hook(recording.end_request).remove)
        yield recording
