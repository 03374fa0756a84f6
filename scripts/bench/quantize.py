"""How long it takes to quantize all 116 layers of the full-size model, and to start from their packs.

    python scripts/bench/quantize.py
    python scripts/bench/quantize.py --blocks 16 64 --rotations hadamard svd duquant none
    python scripts/bench/quantize.py --blocks 16 --rotations hadamard --roundings nearest feedback

Random bf16 weights of the real shapes are written to a file first. Each measurement is a process of its own,
so that peaks of memory belong to it: `bf16 start` maps the file and reads every weight once, `pack` quantizes
and writes packs, `packed start` maps the file and restores from the packs. With error feedback each layer is
rounded by 4,096 random inputs, one set for all layers of as many channels: their Hessians are counted in.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal

import torch
import tyro
from layer_shapes import QUANTIZED_LAYERS
from safetensors.torch import load_file, save_file
from torch import nn

from gr00t.machine import describe_machine
from gr00t.quantization import LinearScheme, Rotation, RuntimeOptions, quantize_
from gr00t.quantization.numerics.statistics import (
    ROUNDED_BY_ROWS,
    InputRecorder,
    InputStatistics,
    RowsInMemory,
)


@dataclasses.dataclass(frozen=True)
class Arguments:
    """How long it takes to quantize all 116 layers of the full-size model, and to start from their packs."""

    blocks: tuple[int, ...] = (16, 64)
    """BLOCK."""
    rotations: tuple[Literal["hadamard", "svd", "duquant", "none"], ...] = (
        "hadamard",
        "svd",
        "duquant",
        "none",
    )
    """ROTATION."""
    roundings: tuple[Literal["nearest", "feedback"], ...] = ("nearest",)
    """ROUNDING."""
    stage: Literal["all", "bf16", "quantize"] = "all"
    """What this process measures; `all` starts the others."""
    weights: Path | None = None
    """File of weights, for the stages."""
    packs: Path | None = None
    """PACKDIR, for the stages."""


def main(arguments: Arguments) -> None:
    """Print a table, and the rows as JSON in the last line."""
    if arguments.stage != "all":
        print(json.dumps(measure(arguments)))
        return
    print(describe_machine())
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder, "weights.safetensors")
        write_weights(weights)
        run_stage("bf16", weights)  # brings the file into the page cache
        rows = [
            compare(weights, Path(folder, f"{rotation}-{block}-{rounding}"), rotation, block, rounding)
            for rotation in arguments.rotations
            for block in arguments.blocks
            for rounding in arguments.roundings
        ]
    print(json.dumps({"threads": torch.get_num_threads(), "rows": rows}))


def compare(
    weights: Path, packs: Path, rotation: str, block: int, rounding: str
) -> dict[str, float | int | str]:
    """Measure one recipe in three processes and print its row."""
    recipe = ("--rotations", rotation, "--blocks", str(block), "--roundings", rounding)
    settings = (*recipe, "--packs", str(packs))
    bf16 = run_stage("bf16", weights)
    packed = run_stage("quantize", weights, *settings)
    restored = run_stage("quantize", weights, *settings)
    assert restored["layers_from_packs"] == packed["layers"]
    row = {
        "layers": packed["layers"],
        "block": block,
        "rotation": rotation,
        "rounding": rounding,
        "pack_seconds": packed["seconds"],
        "pack_cpu_seconds": packed["cpu_seconds"],
        "packed_start_seconds": restored["seconds"],
        "bf16_start_seconds": bf16["seconds"],
        "bytes_bf16": packed["bytes_before"],
        "bytes_packed": packed["bytes_after"],
        "peak_extra_bytes": packed["peak_bytes"] - bf16["peak_bytes"],
    }
    print(
        f"{rotation:<9} block {block:<3} {rounding:<8} pack {row['pack_seconds']:6.1f} s "
        f"({row['pack_cpu_seconds']:.1f} CPU-s)   packed start "
        f"{row['packed_start_seconds']:5.2f} s   bf16 start {row['bf16_start_seconds']:5.2f} s   "
        f"{row['bytes_packed'] / row['bytes_bf16']:.3f} of bf16's bytes   "
        f"peak {row['peak_extra_bytes'] / 1e6:+.0f} MB",
        flush=True,
    )
    return row


def run_stage(stage: str, weights: Path, *settings: str) -> dict[str, float | int]:
    """Run this program for one stage and return what it measured."""
    command = [sys.executable, __file__, "--stage", stage, "--weights", str(weights), *settings]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(arguments: Arguments) -> dict[str, float | int]:
    """One stage: load, and quantize or just read."""
    start = time.perf_counter()
    model = load(arguments.weights)
    result: dict[str, float | int] = {}
    if arguments.stage == "bf16":
        for parameter in model.parameters():
            parameter.sum()
    else:
        scheme = LinearScheme(
            block=arguments.blocks[0], rotation=Rotation(arguments.rotations[0]), calibration_steps=0
        )
        runtime = RuntimeOptions(kernels=os.environ, pack_dir=arguments.packs)
        is_new = arguments.packs is not None and not arguments.packs.exists()
        recorded = random_inputs(model) if is_new and arguments.roundings[0] == "feedback" else None
        report = quantize_(model, scheme, runtime=runtime, statistics=recorded)
        result = {
            "layers": len(report.layers),
            "layers_from_packs": report.packed,
            "bytes_before": report.linear_bytes_before,
            "bytes_after": report.linear_bytes,
        }
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    cpu = round(time.process_time(), 1)
    return result | {"seconds": round(time.perf_counter() - start, 3), "cpu_seconds": cpu, "peak_bytes": peak}


def random_inputs(model: nn.Module) -> dict[str, InputStatistics]:
    """Statistics of every layer as a calibration keeps them, the same for all of as many channels."""
    found: dict[int, InputStatistics] = {}
    for layer in model.children():
        assert isinstance(layer, nn.Linear)
        if layer.in_features not in found:
            recorder = InputRecorder(layer.in_features)
            rows = torch.randn(ROUNDED_BY_ROWS, layer.in_features, generator=torch.Generator().manual_seed(0))
            recorder.observe(rows[:64])
            found[layer.in_features] = recorder.result(RowsInMemory(rows.bfloat16()))
    layers = model.named_children()
    return {name: found[layer.in_features] for name, layer in layers if isinstance(layer, nn.Linear)}


def write_weights(path: Path) -> None:
    """Random bf16 weights for every layer, the same at each run."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for shape in QUANTIZED_LAYERS:
        for index in range(shape.count):
            weight = torch.empty(shape.out_features, shape.in_features, dtype=torch.bfloat16)
            tensors[f"{shape.kind} {index}"] = weight.normal_(0, 0.02, generator=generator)
    save_file(tensors, path)


def load(path: Path | None) -> nn.Module:
    """The layers with their weights mapped from the file."""
    if path is None:
        sys.exit("error: a stage needs --weights")
    model = nn.Module()
    for name, weight in load_file(path).items():
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
        linear.weight = nn.Parameter(weight, requires_grad=False)
        model.add_module(name.replace(" ", "_").replace("/", "_"), linear)
    return model


if __name__ == "__main__":
    main(tyro.cli(Arguments))
