"""Answers per second of one server in bf16 and one at W4A8, by the number of observations in a request."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gr00t.quantization.settings.environment import to_environ
from gr00t.serving.client import ExternalRobotInferenceClient
from serving_parts.server import Server, available_bytes, environment, example, serving

BASE, QUANTIZED = "bf16", "W4A8"

# An answer of the full-size model takes seconds, and a batch has many.
_TIMEOUT_MS = 900_000

# What is left to everybody else, in bytes.
_SPARE = 1_000_000_000


def measure_precisions(
    flags: Mapping[str, object],
    quantized: str,
    batches: Sequence[int],
    rounds: int,
    seconds: float,
    folder: Path,
) -> Iterator[dict[str, Any]]:
    """Let both servers answer in turns, whose order changes from round to round; the first one warms up.

    Args:
        flags: of both servers.
        quantized: what the second one serves: a checkpoint, quantized as it is loaded, or an artefact.
        batches: numbers of observations in a request, in the order in which they are measured.
        rounds: turns that are counted.
        seconds: of a turn, in which one request is answered at least.
        folder: for logs.

    Yields:
        Per batch medians over the turns; or why it was left out.
    """
    environ = environment() | {"OMP_WAIT_POLICY": "PASSIVE"}  # who spins takes the other one's cores
    settings = {} if (Path(quantized) / "duquant.json").is_file() else {"CALIB_STEPS": "0"}
    with contextlib.ExitStack() as stack:
        servers = {
            BASE: stack.enter_context(serving(BASE, flags, folder, to_environ({}, environ))),
            QUANTIZED: stack.enter_context(
                serving(QUANTIZED, {**flags, "model-path": quantized}, folder, to_environ(settings, environ))
            ),
        }
        yield from measure_batches(servers, batches, rounds, seconds)


def measure_batches(
    servers: Mapping[str, Server], batches: Sequence[int], rounds: int, seconds: float
) -> Iterator[dict[str, Any]]:
    """See `measure_precisions`."""
    rows: list[dict[str, Any]] = []
    for batch in batches:
        needed, available = _needed(rows, batch), available_bytes()
        if available and needed + _SPARE > available:
            left_out = f"needs some {needed / 1e9:.1f} GB more, of {available / 1e9:.1f} GB available"
            yield {"batch": batch, "left_out": left_out}
            continue
        turns: dict[str, list[tuple[float, float]]] = {name: [] for name in servers}
        for number in range(rounds + 1):
            for name in sorted(servers, reverse=bool(number % 2)):
                turn = ask(servers[name], batch, seconds if number else 0.0)
                if number:
                    turns[name].append(turn)
        rows.append(_row(batch, turns, {name: server.peak_bytes() for name, server in servers.items()}))
        yield rows[-1]


def ask(server: Server, batch: int, seconds: float) -> tuple[float, float]:
    """Ask for `seconds`, once at least; return the seconds per answer, and the server's CPU seconds.

    Args:
        server: to ask.
        batch: observations of each request, which are as many answers.
        seconds: after which no further request is begun.
    """
    observation = together([example(number) for number in range(batch)])
    answers = 0
    with ExternalRobotInferenceClient(port=server.port, timeout_ms=_TIMEOUT_MS) as client:
        cpu, begun = server.cpu_seconds(), time.perf_counter()
        while not answers or time.perf_counter() - begun < seconds:
            actions = client.get_action(observation, seed=0)
            answers += batch
        taken = time.perf_counter() - begun
    for key, value in actions.items():
        if len(value) != batch or not np.isfinite(value).all():
            raise SystemExit(f"error: {key}: {value.shape} for {batch} observations, or not finite")
    return taken / answers, (server.cpu_seconds() - cpu) / answers


def together(observations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one observation with a batch dimension of several that have none."""
    return {
        key: [text for observation in observations for text in observation[key]]
        if isinstance(first, list)
        else np.stack([observation[key] for observation in observations])
        for key, first in observations[0].items()
    }


def _row(
    batch: int, turns: Mapping[str, Sequence[tuple[float, float]]], peaks: Mapping[str, int]
) -> dict[str, Any]:
    pairs = list(zip(turns[BASE], turns[QUANTIZED], strict=True))
    return {
        "batch": batch,
        "per_second": {
            name: round(statistics.median(1 / seconds for seconds, _ in of), 4) for name, of in turns.items()
        },
        "cpu_seconds": {
            name: round(statistics.median(cpu for _, cpu in of), 4) for name, of in turns.items()
        },
        "throughput_ratio": round(statistics.median(a[0] / b[0] for a, b in pairs), 3),
        "cpu_ratio": round(statistics.median(a[1] / b[1] for a, b in pairs), 3) if pairs[0][1][1] else None,
        "peak_bytes": dict(peaks),
    }


def _needed(rows: Sequence[Mapping[str, Any]], batch: int) -> int:
    """What both servers will want beyond their peaks, by how these grew with the last two batches."""
    measured = [row for row in rows if "peak_bytes" in row][-2:]
    if len(measured) < 2:
        return 0
    before, last = measured
    growth = sum(last["peak_bytes"].values()) - sum(before["peak_bytes"].values())
    return max(0, growth) * (batch - last["batch"]) // max(1, last["batch"] - before["batch"])


def print_precisions(rows: Iterable[Mapping[str, Any]], device: str) -> None:
    """Print the table, row by row as they come, and the same as JSON in the last line."""
    from gr00t.machine import describe_machine  # imports torch

    print(describe_machine(device))
    print(
        f"{'batch':>5}{'1/s: bf16':>11}{'W4A8':>8}{'ratio':>7}{'CPU s: bf16':>13}{'W4A8':>8}{'ratio':>7}"
        f"{'peak GB: bf16':>15}{'W4A8':>7}"
    )
    printed = []
    for row in rows:
        printed.append(row)
        if "left_out" in row:
            print(f"{row['batch']:>5}  left out: {row['left_out']}", flush=True)
            continue
        speed, cpu, peak = row["per_second"], row["cpu_seconds"], row["peak_bytes"]
        ratio = "" if row["cpu_ratio"] is None else f"{row['cpu_ratio']:.2f}"
        print(
            f"{row['batch']:>5}{speed[BASE]:>11.3f}{speed[QUANTIZED]:>8.3f}{row['throughput_ratio']:>7.2f}"
            f"{cpu[BASE]:>13.3f}{cpu[QUANTIZED]:>8.3f}{ratio:>7}"
            f"{peak[BASE] / 1e9:>15.2f}{peak[QUANTIZED] / 1e9:>7.2f}",
            flush=True,
        )
    print(json.dumps({"threads": os.cpu_count(), "device": device, "rows": printed}))
