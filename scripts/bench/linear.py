"""One quantized layer against bf16 `F.linear`, at the full-size model's own shapes, in pairs.

    python scripts/bench/linear.py                                    # wall time, all threads
    python scripts/bench/linear.py --threads 1 --rows 49 --parts      # process CPU time
    python scripts/bench/linear.py --device cuda                      # CUDA events; ours is Triton's

The layer is timed whole (permutation, rotation, quantization, GEMM, scales, restored output, bias) in two
executions, `fake` and `integer`, which compute the same by the same kernel. Beside them:

    bf16     PyTorch's `F.linear`
    packed   the same on a CPU, its weight brought into oneDNN's order once
    fp32     `F.linear` in float32
    onednn   its int8 GEMM amid eager quantization: scales per row, no transforms
    torch    our layer as it runs where nothing can be compiled: PyTorch's operations around its own int8 GEMM
    w3, w6   our layer with weights of 3 and of 6 bits (--bits), by the same kernel as `integer`, whose have 4

Every round times a few calls of each in turn, over copies of the weights that do not fit the cache together,
and the table gives medians; a ratio, `bf16/integer` for instance, is the median over the rounds of how many
times faster the second one is. With one thread it is CPU time that counts, which other programs on the
machine cannot take away. M = 49 tokens go through the diffusion transformer, 566 through the language model;
98 and 392 are batches of 2 and 8. The roofline is the instruction that the fastest kernel multiplies with,
timed from registers alone, on a GPU PyTorch's int8 GEMM of large matrices; its share counts the
multiplications of the GEMM only. With --parts a layer's three steps are timed alone, too, as shares of the
whole layer, which does them in one call: together they may take more.
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import time

import torch
import tyro
from layer_shapes import QUANTIZED_LAYERS, LayerShape
from linear_parts.kinds import kinds, parts, peak_kernel
from linear_parts.table import PARTS, RATIOS, Row, heading, line, mean_by_rows, means, ratio_name
from linear_parts.timing import Clock, gpu_peak_gops, interleaved, peak_gops
from torch import nn

from gr00t.machine import describe_machine
from gr00t.quantization import DuQuantLinear
from gr00t.quantization.kernels import library
from gr00t.quantization.numerics.metrics import sqnr_db


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
    bits: tuple[int, ...] = (3, 6)
    """Weight bits to time besides 4."""
    others: bool = True
    """Also time float32, oneDNN's int8 and PyTorch's operations."""
    parts: bool = False
    """Also time the three steps of the layer alone."""


def main(arguments: Arguments) -> None:
    """Print the tables, and the same as JSON in the last line."""
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    library.load(os.environ)
    threads = torch.get_num_threads()
    on_cpu = arguments.device == "cpu"
    clock: Clock = time.process_time if threads == 1 and on_cpu else time.perf_counter
    kernel = peak_kernel() if on_cpu else "triton"
    roofline = peak_gops(kernel, threads, clock) if on_cpu else gpu_peak_gops(arguments.device)
    print(describe_machine(arguments.device))
    time_of = "GPU" if not on_cpu else "CPU" if clock is time.process_time else "wall"
    print(
        f"{threads} thread{'s' * (threads > 1)}, {time_of} time in microseconds; kernel {kernel}, "
        f"roofline {roofline or 'unknown'} GOP/s"
    )
    results: list[Row] = []
    names: list[str] = []
    for shape in QUANTIZED_LAYERS:
        layers = kinds(_linear(shape, arguments.device), arguments.block, arguments.others, arguments.bits)
        if not results:
            names = list(layers)
            print(heading(names, arguments.parts))
        print(f"{shape.kind}, {shape.in_features}->{shape.out_features}")
        for m in arguments.rows:
            row = measure(shape, layers, m, arguments, clock, roofline)
            results.append(row)
            print(line(row, names, arguments.parts), flush=True)
    for row in results:
        row["best_bf16_over_integer"] = row["bf16_best_us"] / row["integer_best_us"]
    found = {
        **{f"{a}/{b}": mean_by_rows(results, ratio_name((a, b))) for a, b in RATIOS},
        "bf16/integer, best rounds": mean_by_rows(results, "best_bf16_over_integer"),
    }
    speedups = {name: by_rows for name, by_rows in found.items() if by_rows}
    print(means(speedups))
    print(
        json.dumps(
            {
                "threads": threads,
                "block": arguments.block,
                "kernel": kernel,
                "roofline_gops": roofline,
                "geometric_mean": speedups,
                "rows": results,
            }
        )
    )


def measure(
    shape: LayerShape,
    layers: dict[str, list[nn.Module]],
    m: int,
    arguments: Arguments,
    clock: Clock,
    roofline: float | None,
) -> Row:
    """Time one shape for one number of rows."""
    x = torch.randn(m, shape.in_features, generator=torch.Generator().manual_seed(m))
    x = x.to(arguments.device, torch.bfloat16)
    with torch.inference_mode():
        steps = parts(layers["integer"], x) if arguments.parts else {}
        times = interleaved({**layers, **steps}, x, arguments.rounds, clock)
        sqnr = sqnr_db(layers["bf16"][0](x), layers["fake"][0](x))
    median = {name: statistics.median(values) for name, values in times.items()}

    def ratio(a: str, b: str) -> float:
        return round(statistics.median(p / q for p, q in zip(times[a], times[b], strict=True)), 3)

    gops = 2e-9 * m * shape.in_features * shape.out_features / median["integer"]
    kernel = layers["integer"][0]
    assert isinstance(kernel, DuQuantLinear)
    return {
        "layer": shape.kind,
        "shape": f"{shape.in_features}->{shape.out_features}",
        "m": m,
        "threads": torch.get_num_threads(),
        **{f"{name}_us": round(seconds * 1e6, 1) for name, seconds in median.items()},
        **{f"{name}_best_us": round(min(values) * 1e6, 1) for name, values in times.items()},
        "kernel": kernel.backend.accumulator,
        "gops": round(gops, 1),
        "roofline_share": round(gops / roofline, 3) if roofline else None,
        **{ratio_name((a, b)): ratio(a, b) for a, b in RATIOS if {a, b} <= times.keys()},
        **{f"{name}_share": ratio(name, "integer") for name in PARTS if name in times},
        "sqnr_db": round(sqnr, 2),
    }


def _linear(shape: LayerShape, device: str) -> nn.Linear:
    """A layer of that shape in bf16, with Gaussian weights."""
    linear = nn.Linear(shape.in_features, shape.out_features, bias=shape.bias).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    linear.weight.copy_(torch.randn(linear.weight.shape, generator=generator) / shape.in_features**0.5)
    return linear.to(device, torch.bfloat16)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
