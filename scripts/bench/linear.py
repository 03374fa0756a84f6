"""One quantized layer against bf16 `F.linear`, at the full-size model's own shapes, in pairs.

    python scripts/bench/linear.py                                    # wall time, all threads
    python scripts/bench/linear.py --threads 1 --rows 49              # process CPU time
    python scripts/bench/linear.py --device cuda                      # CUDA events; `integer` is Triton's

The layer is timed whole (permutation, rotation, quantization, GEMM, scales, restored output, bias) in its two
executions: `integer`, by the compiled kernel, and `fake`. Beside them PyTorch's bf16 and float32 `F.linear`,
and `int8`: the layer as it runs where nothing can be compiled, PyTorch's int8 GEMM amid its other operations.

Every round times a few calls of each in turn, over copies of the weights that do not fit the cache together,
and the table gives medians; a ratio is the median over the rounds. A last line compares the best rounds: what
wall time says where two threads do not always get two processors. With one thread it is CPU time that
counts, which other programs on the machine cannot take away. M = 49 tokens go through the diffusion
transformer, 566 through the language model; 98 and 392 are batches of 2 and 8. The roofline is the
instruction that the kernel multiplies with, timed from registers alone, on a GPU PyTorch's int8 GEMM of large
matrices; its share counts the multiplications of the GEMM only.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
import tyro
from layer_shapes import QUANTIZED_LAYERS, LayerShape
from torch import Tensor, nn

from gr00t.machine import describe_machine
from gr00t.quantization import DuQuantLinear, LinearSpec, RuntimeOptions
from gr00t.quantization.kernels import library, registry
from gr00t.quantization.numerics.metrics import sqnr_db
from gr00t.quantization.settings.options import Execution

# Weights of one kind together: more than a cache of 32 MB holds, on a GPU one of 60 MB.
_COLD_BYTES = {"cpu": 48 * 2**20, "cuda": 128 * 2**20}

# Rows, columns and depth of the GEMM that is a GPU's roofline.
_LARGE = 8192

# What a round times of each kind, in seconds: long for the clock, short for the neighbours.
_BATCH_SECONDS = 0.004

Row = dict[str, float | int | str | None]


@dataclasses.dataclass(frozen=True)
class Arguments:
    """One quantized layer against bf16 `F.linear`, at the full-size model's own shapes, in pairs."""

    rows: tuple[int, ...] = (1, 49, 98, 392, 566)
    """Tokens per call (M)."""
    rounds: int = 9
    """Timed rounds; the median counts."""
    threads: int | None = None
    """CPU threads; all of them if not given."""
    block: int = 16
    """BLOCK."""
    device: str = "cpu"
    """cpu or cuda."""
    others: bool = True
    """Also time float32 and int8."""


def main(arguments: Arguments) -> None:
    """Print the table, and the same as JSON in the last line."""
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    library.load(os.environ)
    threads = torch.get_num_threads()
    clock = time.process_time if threads == 1 and arguments.device == "cpu" else time.perf_counter
    if arguments.device == "cpu":
        roofline = peak_gops(library.supported(), threads, clock)
    else:
        roofline = gpu_peak_gops(arguments.device)
    print(describe_machine(arguments.device))
    kind = "GPU" if arguments.device != "cpu" else "CPU" if clock is time.process_time else "wall"
    print(f"{kind} time; int8 roofline {roofline or 'unknown'} GOP/s")
    print(
        f"{'layer':<12}{'K->N':<12}{'M':>5}{'us: bf16':>10}{'fp32':>9}{'int8':>9}{'fake':>9}{'integer':>9}"
        f"{'bf16/fake':>11}{'bf16/int':>10}{'GOP/s':>7}{'roof':>6}{'SQNR dB':>9}"
    )
    results = []
    for shape in QUANTIZED_LAYERS:
        for row in measure(shape, arguments, clock, roofline):
            results.append(row)
            print(_line(shape.kind, row), flush=True)
    speedups = {name: _mean_speedups(results, f"bf16_over_{name}") for name in ("fake", "integer")}
    for row in results:
        row["best_bf16_over_integer"] = row["bf16_best_us"] / row["integer_best_us"]
    speedups["integer_best"] = _mean_speedups(results, "best_bf16_over_integer")
    for name, by_rows in speedups.items():
        print(
            f"geometric mean, times faster than bf16, {name}:",
            ", ".join(f"M={m}: {v}" for m, v in by_rows.items()),
        )
    print(
        json.dumps(
            {
                "threads": threads,
                "block": arguments.block,
                "roofline_gops": roofline,
                "geometric_mean_over_bf16": speedups,
                "rows": results,
            }
        )
    )


def measure(
    shape: LayerShape, arguments: Arguments, clock: Callable[[], float], roofline: float | None
) -> list[Row]:
    """Time one shape for every number of rows."""
    generator = torch.Generator().manual_seed(0)
    linear = nn.Linear(shape.in_features, shape.out_features, bias=shape.bias).requires_grad_(False)
    linear.weight.copy_(torch.randn(linear.weight.shape, generator=generator) / shape.in_features**0.5)
    linear = linear.to(arguments.device, torch.bfloat16)
    kinds = _kinds(linear, arguments)
    rows = []
    for m in arguments.rows:
        x = torch.randn(m, shape.in_features, generator=generator).to(arguments.device, torch.bfloat16)
        with torch.inference_mode():
            times = _interleaved(kinds, x, arguments.rounds, clock)
            sqnr = sqnr_db(linear(x), kinds["fake"][0](x))
        median = {name: statistics.median(values) for name, values in times.items()}
        ratio = {
            name: statistics.median(b / t for b, t in zip(times["bf16"], times[name], strict=True))
            for name in ("fake", "integer")
        }
        gops = 2e-9 * m * shape.in_features * shape.out_features / median["integer"]
        rows.append(
            {
                "layer": shape.kind,
                "shape": f"{shape.in_features}->{shape.out_features}",
                "m": m,
                "threads": torch.get_num_threads(),
                **{f"{name}_us": round(seconds * 1e6, 1) for name, seconds in median.items()},
                **{f"{name}_best_us": round(min(values) * 1e6, 1) for name, values in times.items()},
                "kernel": kinds["integer"][0].backend.accumulator,
                "gops": round(gops, 1),
                "roofline_share": round(gops / roofline, 3) if roofline else None,
                **{f"bf16_over_{name}": round(value, 3) for name, value in ratio.items()},
                "sqnr_db": round(sqnr, 2),
            }
        )
    return rows


def _mean_speedups(rows: list[Row], name: str) -> dict[int, float]:
    """The geometric mean over the layers, by M."""
    return {
        m: round(statistics.geometric_mean(row[name] for row in rows if row["m"] == m), 3)
        for m in dict.fromkeys(row["m"] for row in rows)
    }


def peak_gops(kernels: tuple[str, ...], threads: int, clock: Callable[[], float]) -> float | None:
    """Operations a second of the fastest kernel's instruction, all threads together; the best of a few."""
    if not kernels:
        return None
    rounds, best = 4_000_000, 0.0
    library.peak_operations(kernels[0], rounds)
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(7):
            start = clock()
            done = sum(pool.map(library.peak_operations, kernels[:1] * threads, [rounds] * threads))
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


def _kinds(linear: nn.Linear, arguments: Arguments) -> dict[str, list[nn.Module]]:
    """Copies of the layer by what executes them."""
    spec = LinearSpec(
        linear.in_features, linear.out_features, block_in=arguments.block, block_out=arguments.block
    )
    fake = DuQuantLinear.from_linear(linear, spec)
    integer = DuQuantLinear.from_state(linear, spec, fake.packed_state())
    integer.run_as(RuntimeOptions(Execution.INTEGER))
    layers: dict[str, nn.Linear | DuQuantLinear] = {"bf16": linear, "fake": fake, "integer": integer}
    if arguments.others:
        plain = copy.deepcopy(fake)
        plain.backend = registry.backend("torch", plain.backend.accumulator)
        layers |= {"fp32": copy.deepcopy(linear).float(), "int8": plain}
    return {name: _cold(layer) for name, layer in layers.items()}


def _cold(layer: nn.Linear | DuQuantLinear) -> list[nn.Module]:
    """As many copies as do not fit the cache together."""
    if isinstance(layer, DuQuantLinear):
        assert layer.row_scale is not None
        device = layer.row_scale.device
        # What it unpacks once, its copies have unpacked.
        layer(torch.zeros(1, layer.spec.in_features, device=device))
        held = layer.resident_bytes()
    else:
        device, held = layer.weight.device, layer.weight.nbytes
    return [copy.deepcopy(layer) for _ in range(max(2, -(-_COLD_BYTES[device.type] // held)))]


def _interleaved(
    kinds: dict[str, list[nn.Module]], x: Tensor, rounds: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds per call of every kind in every round; a first round warms up and sets how many calls."""
    times: dict[str, list[float]] = {name: [] for name in kinds}
    calls = dict.fromkeys(kinds, 1)
    turn = 0

    def call(layers: list[nn.Module], y: Tensor, count: int) -> None:
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


def _line(kind: str, row: Row) -> str:
    def us(name: str) -> str:
        value = row.get(f"{name}_us")
        return f"{value:>9.0f}" if value is not None else f"{'':>9}"

    share = "" if row["roofline_share"] is None else f"{row['roofline_share']:.2f}"
    return (
        f"{kind:<12}{row['shape']:<12}{row['m']:>5} "
        f"{us('bf16')}{us('fp32')}{us('int8')}{us('fake')}{us('integer')}"
        f"{row['bf16_over_fake']:>11.2f}{row['bf16_over_integer']:>10.2f}{row['gops']:>7.0f}{share:>6}"
        f"{row['sqnr_db']:>9.1f}"
    )


if __name__ == "__main__":
    main(tyro.cli(Arguments))
