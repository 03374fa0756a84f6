"""PROFILE: where the time of quantized layers goes, by stage and by kind of layer.

The stages are methods of a layer's kernels (`kernels.backend`); a layer that is profiled gets copies of them
whose methods are timed, so a model that is not runs the very same code as if this module did not exist. The
table is logged when the program ends and whenever it receives SIGUSR1. On an accelerator a stage only
*starts* work: PROFILE_SYNC=1 waits for it to finish.
"""

from __future__ import annotations

import atexit
import copy
import dataclasses
import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from gr00t.quantization.duquant_layers import DuQuantLinear
from gr00t.quantization.kernels.backend import Kernel

logger = logging.getLogger(__name__)


@dataclasses.dataclass
class _Tally:
    calls: int = 0
    seconds: float = 0.0
    elements: int = 0  # of the stage's input
    moved: int = 0  # bytes of activations read and written


class StageProfiler:
    """Times the stages of `layers` (by name), aggregated by the last part of the name.

    Args:
        layers: the layers to profile.
        synchronize: wait for the accelerator before and after each stage.
    """

    def __init__(self, layers: Mapping[str, DuQuantLinear], synchronize: bool) -> None:
        self._synchronize = synchronize and torch.cuda.is_available()
        self._tallies: dict[tuple[str, str], _Tally] = {}  # by kind of layer and stage
        for name, layer in layers.items():
            self._watch(layer, name.rpartition(".")[2])

    def start(self) -> None:
        """Log the table at exit and on SIGUSR1 (which only the main thread may ask for)."""
        atexit.register(self._log)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGUSR1, self._log)

    def table(self) -> str:
        """Calls, total and mean ms, share of the total, elements per call and GB/s, by kind and stage."""
        total = sum(tally.seconds for tally in self._tallies.values())
        columns = ("layers", "stage", "calls", "total ms", "mean ms", "share", "elements", "GB/s")
        lines = ["{:<12}{:<25}{:>8}{:>11}{:>10}{:>8}{:>11}{:>8}".format(*columns)]
        slowest_first = sorted(self._tallies.items(), key=lambda item: -item[1].seconds)
        for (kind, stage), tally in slowest_first:
            if tally.calls:
                mean = tally.seconds / tally.calls
                lines.append(
                    f"{kind:<12}{stage:<25}{tally.calls:>8}{tally.seconds * 1e3:>11.2f}{mean * 1e3:>10.3f}"
                    f"{tally.seconds / total:>8.1%}{tally.elements / tally.calls:>11.0f}"
                    f"{tally.moved / tally.seconds / 1e9:>8.2f}"
                )
        return "\n".join(lines)

    def _watch(self, layer: DuQuantLinear, kind: str) -> None:
        """Give `layer` a backend of its own, whose kernels tell how long they take."""
        backend = copy.copy(layer.backend)
        is_one = backend.around is backend.sums
        backend.around = self._timed_kernel(backend.around, kind)
        backend.sums = backend.around if is_one else self._timed_kernel(backend.sums, kind)
        layer.backend = backend

    def _timed_kernel(self, kernel: Kernel, kind: str) -> Kernel:
        timed = copy.copy(kernel)
        for method, stage in kernel.STAGES.items():
            tally = self._tallies.setdefault((kind, stage), _Tally())
            setattr(timed, method, self._timed(getattr(timed, method), tally))
        return timed

    def _timed(self, stage: Callable[..., Any], tally: _Tally) -> Callable[..., Any]:
        def run(x: Tensor, *rest: Any) -> Any:
            self._wait()
            start = time.perf_counter()
            result = stage(x, *rest)
            self._wait()
            tally.seconds += time.perf_counter() - start
            tally.calls += 1
            tally.elements += x.numel()
            outputs = result if isinstance(result, tuple) else (result,)
            tally.moved += x.nbytes + sum(output.nbytes for output in outputs)
            return result

        return run

    def _wait(self) -> None:
        if self._synchronize:
            torch.cuda.synchronize()

    def _log(self, signum: int | None = None, frame: FrameType | None = None) -> None:
        logger.info("[GR00T-DUQUANT][PROFILE] GB/s counts activations, not weights\n%s", self.table())
