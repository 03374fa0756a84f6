"""Timing layers in turns, and what an instruction can do at most."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from gr00t.quantization.kernels import library

Clock = Callable[[], float]

# Rows, columns and depth of the GEMM that is a GPU's roofline.
_LARGE = 8192

# What a round times of each kind, in seconds: long for the clock, short for the neighbours.
_BATCH_SECONDS = 0.004


def interleaved(
    kinds: Mapping[str, Sequence[nn.Module]], x: Tensor, rounds: int, clock: Clock
) -> dict[str, list[float]]:
    """Return seconds per call of every kind in every round; a first round warms up and sets how many calls.

    Args:
        kinds: copies of a layer, called one after the other.
        x: (M, K) bf16; what is called `fp32` gets it in float32.
        rounds: how many are timed.
        clock: not for a GPU, which has its own.
    """
    times: dict[str, list[float]] = {name: [] for name in kinds}
    calls = dict.fromkeys(kinds, 1)
    turn = 0

    def call(layers: Sequence[nn.Module], y: Tensor, count: int) -> None:
        nonlocal turn
        for _ in range(count):
            turn += 1
            layers[turn % len(layers)](y)

    for number in range(rounds + 1):
        for name, layers in kinds.items():
            work = functools.partial(call, layers, x.float() if name == "fp32" else x, calls[name])
            if x.is_cuda:
                if not number:
                    work()  # compiles
                seconds = _gpu_seconds(work) / calls[name]
            else:
                start = clock()
                work()
                seconds = (clock() - start) / calls[name]
            if number:
                times[name].append(seconds)
            else:
                calls[name] = max(1, min(50, int(_BATCH_SECONDS / max(seconds, 1e-6))))
    return times


def peak_gops(kernel: str | None, threads: int, clock: Clock) -> float | None:
    """Operations a second of a kernel's instruction, all threads together; the best of a few."""
    if kernel is None:
        return None
    rounds, best = 4_000_000, 0.0
    library.peak_operations(kernel, rounds)
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(7):
            start = clock()
            done = sum(pool.map(library.peak_operations, [kernel] * threads, [rounds] * threads))
            best = max(best, done / (clock() - start))
    return round(best / 1e9, 1)


def gpu_peak_gops(device: str) -> float:
    """Operations a second of PyTorch's int8 GEMM of large matrices; the best of a few."""
    a, b = (torch.zeros(_LARGE, _LARGE, dtype=torch.int8, device=device) for _ in range(2))
    seconds = min(_gpu_seconds(lambda: torch._int_mm(a, b.T)) for _ in range(7))
    return round(2e-9 * _LARGE**3 / seconds, 1)


def _gpu_seconds(work: Callable[[], object]) -> float:
    """Seconds from the start of the first to the end of the last kernel that `work` launches."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    work()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3
