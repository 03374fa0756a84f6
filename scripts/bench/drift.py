"""How far quantizing each part of the model moves its actions, from those in bfloat16.

Recipes are compared by `scripts/drift.py`; this looks at parts.

    python scripts/bench/drift.py --observations FILE
    python scripts/bench/drift.py --model-path CHECKPOINT --data-config MODULE:CLASS --synthetic 48

FILE is what `scripts/calibrate.py --libero SUITE --save FILE` wrote. Its first observations are recorded and
fix the static scales, the others are answered, in every row under the same flow noise. A row is a copy of the
model with other layers quantized: the documented ones, one part beyond them at 8 and at 4 bits, and all that
the scope `wide` takes. *Error* is the RMS of what differs from bfloat16's actions, of the RMS of these, over
all observations; beside it the largest difference of a number. The last line is JSON.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from tqdm import tqdm

from gr00t.cli.calibration.sources import PolicyInProcess
from gr00t.eval.drift.chunks import Chunks, answer_all
from gr00t.experiment.checkpoint_data_config import load_policy
from gr00t.machine import describe_machine
from gr00t.model.checkpoint.folder import module_aliases
from gr00t.model.policy import Gr00tPolicy
from gr00t.model.quantized_layers import BEYOND, DEFAULTS, SCOPES
from gr00t.quantization import DuQuantConfig, IntFormat, LayerFilter, LinearScheme, plan, quantize_
from gr00t.quantization.calibration.recording import record_inputs
from gr00t.quantization.settings.environment import to_environ
from gr00t.serving.observation_file import read_observations
from gr00t.testing.synthetic import synthetic_observation

BITS = (8, 4)
PER_TOKEN, DOCUMENTED = "per token", "static, as documented"
PROMPT = "pick up the milk and place it in the basket"


@dataclasses.dataclass(frozen=True)
class Arguments:
    """How far quantizing each part of the model moves its actions, from those in bfloat16."""

    model_path: str = "examples/Libero/demo_policy"
    """Checkpoint in floating point."""
    data_config: str = "examples.Libero.demo_data_config:DemoDataConfig"
    """Its data configuration."""
    observations: Path | None = None
    """Observations to record and to answer; without a file, random ones."""
    synthetic: int = 96
    """How many random ones."""
    recorded: int = 32
    """How many of the first are recorded, and fix the static scales."""
    denoising_steps: int = 8
    """Euler steps per action chunk."""
    threads: int = 1
    """Threads of torch."""


@dataclasses.dataclass(frozen=True)
class Row:
    """What is quantized, and how."""

    what: str
    bits: str
    settings: str
    scheme: LinearScheme
    layers: LayerFilter


def main(arguments: Arguments) -> None:
    """Measure, print a table and the same as JSON in the last line."""
    torch.set_num_threads(arguments.threads)
    exact, policy = (load(arguments, dtype) for dtype in ("float32", "bfloat16"))
    observations = list(seen(policy, arguments))
    recorded, unseen = observations[: arguments.recorded], observations[arguments.recorded :]
    if not unseen:
        raise SystemExit(
            f"error: {len(observations)} observations, and {arguments.recorded} of them recorded"
        )
    expected = answers(policy, unseen, arguments.recorded)
    in_float32 = answers(exact, unseen, arguments.recorded)
    found: list[dict[str, Any]] = [
        {"what": "nothing", "bits": "float32", "settings": "", "layers": 0, **distance(in_float32, expected)}
    ]
    wanted = rows(arguments.recorded)
    model, aliases = policy.model, module_aliases(policy.model)
    taken = {
        layer.name: layer.linear
        for layer in plan(model, wanted[-1].scheme, wanted[-1].layers, aliases=aliases)
        if layer.spec is not None
    }
    with record_inputs(model, taken) as recording:
        answers(policy, recorded, 0)
    statistics = recording.statistics()
    for row in tqdm(wanted, disable=None):
        policy.model = copy.deepcopy(model)
        informed = statistics if row.settings == DOCUMENTED else None
        report = quantize_(policy.model, row.scheme, row.layers, aliases=aliases, statistics=informed)
        if report.pools_requests:
            answers(policy, recorded, 0)
        found.append(
            {
                **{name: getattr(row, name) for name in ("what", "bits", "settings")},
                "layers": len(report.layers),
                **distance(answers(policy, unseen, arguments.recorded), expected),
            }
        )
    print(describe_machine())
    size = float(np.abs(expected.values).max())
    print(f"{len(unseen)} observations, {arguments.denoising_steps} steps; actions up to {size:.3g}")
    print(table(found))
    print(json.dumps({"rows": found, "observations": len(unseen), "largest_action": size}))


def rows(recorded: int) -> list[Row]:
    """The documented layers, each part beyond them alone, and all of them, at each number of bits.

    Args:
        recorded: requests that fix static scales.
    """
    static = dataclasses.replace(DEFAULTS.scheme, calibration_steps=recorded)
    dynamic = dataclasses.replace(static, calibration_steps=0, smoothing=0.0)
    wide = DuQuantConfig.from_environ(to_environ(SCOPES["wide"]), DEFAULTS)
    assert wide is not None
    found = []
    for settings, scheme in ((PER_TOKEN, dynamic), (DOCUMENTED, static)):
        found.append(Row("documented layers", "W4A8", settings, scheme, DEFAULTS.layer_filter))
        for name, part in BEYOND.items():
            layers = LayerFilter(include=re.compile(part.expression))
            for bits in BITS:
                alone = dataclasses.replace(scheme, weight=IntFormat(bits))
                found.append(Row(f"{name} alone", f"W{bits}A8", settings, alone, layers))
        for bits in BITS:
            rules = {part.rule: IntFormat(bits) for part in BEYOND.values()}
            both = dataclasses.replace(scheme, weight_by_layer=rules)
            label = f"W4A8, beyond the document W{bits}A8"
            found.append(Row("all of these", label, settings, both, wide.layer_filter))
    return found


def load(arguments: Arguments, dtype: str) -> Gr00tPolicy:
    """The policy, not quantized."""
    return load_policy(
        arguments.model_path,
        arguments.data_config,
        dtype=dtype,
        denoising_steps=arguments.denoising_steps,
        device="cpu",
        environ={},
    )


def seen(policy: Gr00tPolicy, arguments: Arguments) -> Iterator[dict[str, Any]]:
    """The observations."""
    if arguments.observations is not None:
        yield from read_observations(arguments.observations)
        return
    config, metadata = policy.get_modality_config(), policy.metadata
    for seed in range(arguments.synthetic):
        yield synthetic_observation(config, metadata, PROMPT, seed)


def answers(policy: Gr00tPolicy, observations: list[dict[str, Any]], first: int) -> Chunks:
    """The chunks of actions, each under a noise of its own: that of its place in the file."""
    return answer_all(PolicyInProcess(policy), observations, range(first, first + len(observations)))


def distance(found: Chunks, expected: Chunks) -> dict[str, float]:
    """How far answers are from those in bfloat16."""
    one, other = found.values, expected.values
    return {
        "error": float(np.sqrt(np.mean((one - other) ** 2) / np.mean(other**2))),
        "largest": float(np.abs(one - other).max()),
    }


def table(found: list[dict[str, Any]]) -> str:
    """The rows, as Markdown."""
    lines = [
        "| quantized | bits | activation scales | layers | error, % | largest difference |",
        "| --- | --- | --- | ---: | ---: | ---: |",
    ]
    for row in found:
        cells = [row["what"], row["bits"], row["settings"], row["layers"]]
        cells += [f"{100 * row['error']:.1f}", f"{row['largest']:.2f}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
