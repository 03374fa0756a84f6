"""One quantized layer against bf16 `F.linear`, at the full-size model's own shapes, in pairs.

    python scripts/bench_linear.py
    python scripts/bench_linear.py --threads 1 --rows 49 --rounds 31

Every round times one call of each, with weights that are not in the cache, and the table gives the median
ratio. M = 49 tokens go through the diffusion transformer, 566 through the language model; 392 and 4528 are
batches of 8. The layer is timed whole: permutation, rotation, quantization, GEMM, scales, restored output,
bias.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import time
from collections.abc import Callable

import torch
import tyro
from torch import Tensor, nn

from gr00t.machine import describe_machine
from gr00t.model.shapes import QUANTIZED_LAYERS, LayerShape
from gr00t.quantization import DuQuantLinear, LinearSpec
from gr00t.quantization.metrics import sqnr_db

# Enough to push one layer's weights out of a 32 MB cache before its turn comes again.
_CACHE_ELEMENTS = 8 * 1024 * 1024


@dataclasses.dataclass(frozen=True)
class Arguments:
    """One quantized layer against bf16 `F.linear`, at the full-size model's own shapes, in pairs."""

    rows: tuple[int, ...] = (49, 566, 392, 4528)
    """Tokens per call (M)."""
    rounds: int = 15
    """Timed pairs; the median counts."""
    threads: int | None = None
    """CPU threads; all of them if not given."""
    block: int = 16
    """BLOCK."""
    device: str = "cpu"
    """cpu or cuda."""


def main(arguments: Arguments) -> None:
    """Print the table, and the same as JSON in the last line."""
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    print(describe_machine(arguments.device))
    print(f"{'layer':<12}{'K->N':<12}{'M':>6}{'bf16 us':>10}{'fake us':>10}{'ratio':>8}{'SQNR dB':>9}")
    results = []
    for shape in QUANTIZED_LAYERS:
        for rows in arguments.rows:
            row = measure(shape, rows, arguments)
            results.append(row)
            print(
                f"{shape.kind:<12}{row['shape']:<12}{rows:>6}{row['bf16_us']:>10.0f}{row['fake_us']:>10.0f}"
                f"{row['ratio']:>8.2f}{row['sqnr_db']:>9.1f}",
                flush=True,
            )
    by_rows = {
        rows: round(statistics.geometric_mean(row["ratio"] for row in results if row["m"] == rows), 3)
        for rows in arguments.rows
    }
    print("geometric mean of the ratio by M:", ", ".join(f"{m}: {ratio}" for m, ratio in by_rows.items()))
    threads = torch.get_num_threads()
    print(json.dumps({"threads": threads, "geometric_mean_ratio": by_rows, "rows": results}))


def measure(shape: LayerShape, rows: int, arguments: Arguments) -> dict[str, float | int | str]:
    """Time both in alternation; the first round only warms up."""
    generator = torch.Generator().manual_seed(0)
    linear = nn.Linear(shape.in_features, shape.out_features, bias=shape.bias).requires_grad_(False)
    linear.weight.copy_(torch.randn(linear.weight.shape, generator=generator) / shape.in_features**0.5)
    linear = linear.to(arguments.device, torch.bfloat16)
    x = torch.randn(rows, shape.in_features, generator=generator).to(arguments.device, torch.bfloat16)
    spec = LinearSpec(
        shape.in_features, shape.out_features, block_in=arguments.block, block_out=arguments.block
    )
    quantized = DuQuantLinear.from_linear(linear, spec)
    other = torch.zeros(_CACHE_ELEMENTS, device=arguments.device)
    with torch.inference_mode():
        times: list[tuple[float, float]] = []
        for _ in range(arguments.rounds + 1):
            pair = []
            for layer in (linear, quantized):
                other.add_(1)
                pair.append(_seconds(layer, x))
            times.append((pair[0], pair[1]))
        sqnr = sqnr_db(linear(x), quantized(x))
    bf16, fake = zip(*times[1:], strict=True)
    return {
        "layer": shape.kind,
        "shape": f"{shape.in_features}->{shape.out_features}",
        "m": rows,
        "bf16_us": round(statistics.median(bf16) * 1e6, 1),
        "fake_us": round(statistics.median(fake) * 1e6, 1),
        "ratio": round(statistics.median(f / b for b, f in times[1:]), 3),
        "sqnr_db": round(sqnr, 2),
    }


def _seconds(layer: Callable[[Tensor], Tensor], x: Tensor) -> float:
    if x.is_cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    layer(x)
    if x.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    main(tyro.cli(Arguments))
