"""Many clients at one policy server: batched against one at a time, in turns in the same run.

    python scripts/bench/serving.py
    python scripts/bench/serving.py --clients 4 16 64 --model-path CHECKPOINT --dtype float32
    python scripts/bench/serving.py --batches 1 2 4 8 16 --model-path CHECKPOINT       # bf16 against W4A8

Two servers run at once, the program itself with --max-batch N and with --max-batch 1, and are loaded in
turns, so that neither gets the quieter machine; a lone client asks them alternately. Clients are threads of
this process, each with its own connection, observation and seed; each asks again as soon as it has its
answer. Without --model-path a small random checkpoint is written first. The GR00T_DUQUANT_* variables reach
both servers.

With --batches two servers compute in bf16 and at W4A8 (dynamic scales), and answer in turns one request of so
many observations, in one forward: answers per second, and the server's CPU time per answer, which does not
see who else uses the machine. A batch that the memory may not hold is left out, by name.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from serving_parts.precisions import measure_precisions, print_precisions
from serving_parts.server import Server, example, serving, small_checkpoint

from gr00t.serving.client import ExternalRobotInferenceClient, NoReplyError, NoServerError, ServerError


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Many clients at one policy server: batched against one at a time."""

    clients: tuple[int, ...] = (4, 16)
    """How many ask at once; every number is measured, and a lone client besides."""
    rounds: int = 5
    """Turns of either server per number of clients; the median counts."""
    seconds: float = 4.0
    """How long a turn lasts."""
    lone: int = 100
    """Requests of the lone client to either server."""
    pause_ms: float = 0.0
    """What a client does between an answer and its next request: a simulator executes actions."""
    max_batch: int = 16
    """Of the batched server."""
    model_path: str | None = None
    """Checkpoint for LIBERO; a small random one if not given."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Precision of what is not quantized."""
    denoising_steps: int = 4
    """Euler steps per action chunk."""
    device: str = "cpu"
    """cpu, cuda or cuda:N."""
    batches: tuple[int, ...] = ()
    """Observations of one request: bf16 against W4A8 instead."""
    data_config: str | None = None
    """Of the checkpoint; LIBERO's if not given."""
    tokenizer: str | None = None
    """Folder of a tokenizer, for a checkpoint that has none."""
    quantized: str | None = None
    """What scripts/export_quantized.py made of the checkpoint: with --batches, served for W4A8."""


@dataclasses.dataclass
class Turn:
    """What one server did for some clients in one turn."""

    seconds: float
    latencies_ms: list[float]
    lost: int
    batches: dict[int, int]
    cpu_seconds: float

    @property
    def per_second(self) -> float:
        """Answers per second."""
        return len(self.latencies_ms) / self.seconds

    @property
    def p50_ms(self) -> float:
        """Median time from a request to its answer."""
        return statistics.median(self.latencies_ms)

    @property
    def cpu_ms(self) -> float:
        """CPU time of the server per answer; unlike the clock it does not see who else uses the machine."""
        return 1e3 * self.cpu_seconds / len(self.latencies_ms)


def main(arguments: Arguments) -> None:
    """Print the table, and the same as JSON in the last line."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        checkpoint = arguments.model_path or str(small_checkpoint(folder / "checkpoint"))
        if arguments.batches:
            print_precisions(
                measure_precisions(
                    flags(arguments, checkpoint) | {"max-batch": max(arguments.batches)},
                    arguments.quantized or checkpoint,
                    arguments.batches,
                    arguments.rounds,
                    arguments.seconds,
                    folder,
                ),
                arguments.device,
            )
            return
        servers = {
            size: stack.enter_context(
                serving(str(size), flags(arguments, checkpoint) | {"max-batch": size}, folder)
            )
            for size in (arguments.max_batch, 1)
        }
        lone = alternate(arguments, servers)
        rows = [measure(arguments, servers, clients) for clients in arguments.clients]
    from gr00t.machine import describe_machine  # imports torch, which the clients must not wait for

    print(describe_machine(arguments.device))
    print(
        f"lone client: median {lone['batched_ms']:.1f} ms from the batched server, "
        f"{lone['single_ms']:.1f} ms from the other; {lone['ratio']:.3f} x "
        f"in the median of {arguments.lone} pairs"
    )
    heads = ["1/s", "p50 ms", "p95 ms", "p99 ms", "lost", "cpu ms", "batches"]
    print(f"{'clients':>7} {'max batch':>9} " + " ".join(f"{head:>8}" for head in heads))
    for row in rows:
        for size in servers:
            one = row[f"max_batch_{size}"]
            columns = ["per_second", "p50_ms", "p95_ms", "p99_ms", "lost", "cpu_ms"]
            cells = " ".join(f"{one[column]:8.4g}" for column in columns)
            print(f"{row['clients']:7d} {size:9d} {cells} {show(one['batches'])}")
        print(
            f"{'':8}batched / one at a time: {row['throughput_ratio']:.2f} x the answers, "
            f"{row['latency_ratio']:.3f} x the median latency, {row['cpu_ratio']:.2f} x the CPU time per "
            f"answer; at most {row['deviation']:.1e} from the answer alone"
        )
    fields = {key: value for key, value in dataclasses.asdict(arguments).items() if key != "clients"}
    print(json.dumps({**fields, "lone": lone, "rows": rows}))


def alternate(arguments: Arguments, servers: dict[int, Server]) -> dict[str, float]:
    """Let one client ask both servers in turn; which one goes first changes from pair to pair."""
    observation = example(0)
    with contextlib.ExitStack() as stack:
        clients = {
            size: stack.enter_context(ExternalRobotInferenceClient(port=server.port))
            for size, server in servers.items()
        }
        times: dict[int, list[float]] = {size: [] for size in servers}
        for number in range(arguments.lone + 5):
            for size in sorted(clients, reverse=bool(number % 2)):
                begun = time.perf_counter()
                clients[size].get_action(observation, seed=0)
                times[size].append(1e3 * (time.perf_counter() - begun))
    batched, single = times[arguments.max_batch][5:], times[1][5:]  # the first ones warm up
    return {
        "batched_ms": statistics.median(batched),
        "single_ms": statistics.median(single),
        "ratio": statistics.median(a / b for a, b in zip(batched, single, strict=True)),
    }


def measure(arguments: Arguments, servers: dict[int, Server], clients: int) -> dict[str, Any]:
    """Let both servers answer in turns, whose order changes from round to round."""
    turns: dict[int, list[Turn]] = {size: [] for size in servers}
    expected = [alone(servers[1].port, number) for number in range(clients)]
    deviation = 0.0
    for number in range(arguments.rounds + 1):
        for size in sorted(servers, reverse=bool(number % 2)):
            # The first round warms up.
            seconds = arguments.seconds if number else min(1.0, arguments.seconds)
            turn, off = load(arguments, servers[size], expected, seconds)
            deviation = max(deviation, off)
            if number:
                turns[size].append(turn)
    batched, single = turns[arguments.max_batch], turns[1]
    pairs = list(zip(batched, single, strict=True))
    return {
        "clients": clients,
        **{f"max_batch_{size}": summary(turns[size]) for size in servers},
        "throughput_ratio": statistics.median(a.per_second / b.per_second for a, b in pairs),
        "latency_ratio": statistics.median(a.p50_ms / b.p50_ms for a, b in pairs),
        "cpu_ratio": statistics.median(a.cpu_ms / b.cpu_ms for a, b in pairs)
        if single[0].cpu_seconds
        else 0.0,
        "deviation": deviation,
    }


def load(
    arguments: Arguments, server: Server, expected: list[dict[str, np.ndarray]], seconds: float
) -> tuple[Turn, float]:
    """Let as many clients as there are `expected` answers ask for `seconds`; also the farthest from those."""
    latencies: list[float] = []
    lost: list[str] = []
    off: list[float] = [0.0]
    gate = threading.Barrier(len(expected) + 1)

    def ask(number: int) -> None:
        observation = example(number)
        with ExternalRobotInferenceClient(port=server.port, timeout_ms=60_000) as client:
            client.ping()
            gate.wait()
            end = time.perf_counter() + seconds
            while (begun := time.perf_counter()) < end:
                try:
                    actions = client.get_action(observation, seed=number)
                except (NoReplyError, NoServerError, ServerError) as error:
                    lost.append(str(error))
                    continue
                latencies.append(1e3 * (time.perf_counter() - begun))
                off.append(max(np.abs(actions[key] - want).max() for key, want in expected[number].items()))
                time.sleep(arguments.pause_ms / 1e3)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(expected))]
    before, cpu_before = batches(server.port), server.cpu_seconds()
    for thread in threads:
        thread.start()
    gate.wait()
    started = time.perf_counter()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - started
    for text in lost[:3]:
        print(f"lost: {text}", file=sys.stderr)
    cpu = server.cpu_seconds() - cpu_before
    return Turn(elapsed, latencies, len(lost), dict(batches(server.port) - before), cpu), float(max(off))


def summary(turns: list[Turn]) -> dict[str, Any]:
    """Return the medians over turns, what was lost and the sizes of all batches."""
    every = [latency for turn in turns for latency in turn.latencies_ms]
    p50, p95, p99 = np.percentile(every, [50, 95, 99])
    sizes: collections.Counter[int] = sum(
        (collections.Counter(turn.batches) for turn in turns), collections.Counter()
    )
    return {
        "per_second": round(statistics.median(turn.per_second for turn in turns), 2),
        "p50_ms": round(float(p50), 2),
        "p95_ms": round(float(p95), 2),
        "p99_ms": round(float(p99), 2),
        "cpu_ms": round(statistics.median(turn.cpu_ms for turn in turns), 2),
        "answers": len(every),
        "lost": sum(turn.lost for turn in turns),
        "batches": dict(sorted(sizes.items())),
    }


def show(sizes: dict[int, int]) -> str:
    """Return the mean size and the three most frequent ones with their share."""
    total = sum(sizes.values())
    mean = sum(size * count for size, count in sizes.items()) / total
    common = sorted(sizes.items(), key=lambda item: -item[1])[:3]
    return (
        f"mean {mean:.1f} ("
        + ", ".join(f"{size}: {100 * count / total:.0f} %" for size, count in common)
        + ")"
    )


def alone(port: int, number: int) -> dict[str, np.ndarray]:
    """Return the answer to the client `number` when nobody else asks."""
    with ExternalRobotInferenceClient(port=port, timeout_ms=60_000) as client:
        return client.get_action(example(number), seed=number)


def batches(port: int) -> collections.Counter[int]:
    """Return how many forwards had how many requests so far."""
    with ExternalRobotInferenceClient(port=port) as client:
        return collections.Counter(
            {int(size): count for size, count in client.get_server_info()["batches"].items()}
        )


def flags(arguments: Arguments, checkpoint: str) -> dict[str, object]:
    """Return the flags that all servers have in common."""
    given = {"data-config": arguments.data_config, "tokenizer": arguments.tokenizer}
    return {
        "model-path": checkpoint,
        **{flag: value for flag, value in given.items() if value is not None},
        "dtype": arguments.dtype,
        "denoising-steps": arguments.denoising_steps,
        "device": arguments.device,
    }


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
