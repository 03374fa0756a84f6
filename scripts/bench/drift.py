"""How far quantizing each part of the model moves its actions, from those in bfloat16.

    python scripts/bench/drift.py --observations FILE
    python scripts/bench/drift.py --model-path CHECKPOINT --data-config libero --synthetic 16

FILE is what `scripts/calibrate.py --libero SUITE --save FILE` wrote. Its first observations fix the static
scales and the statistics, the others are answered, all under the same flow noise. Every row is a copy of the
model with other layers quantized: the documented ones, one part beyond them at 8 and at 4 bits, and all that
the scope `wide` takes. *Error* is the RMS of what differs from bfloat16's actions, of the RMS of these, over
all observations; beside it the largest difference of a number. The last line is JSON.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from tqdm import tqdm

from gr00t.console import log_to_stderr
from gr00t.experiment.data_config import load_data_config
from gr00t.machine import describe_machine
from gr00t.model.checkpoint.folder import module_aliases
from gr00t.model.policy import Gr00tPolicy
from gr00t.model.preprocessing.prepared_observation import PreparedObservation
from gr00t.model.quantized_layers import BEYOND, DEFAULTS, SCOPES
from gr00t.quantization import DuQuantConfig, IntFormat, LayerFilter, LinearScheme, plan, quantize_
from gr00t.quantization.calibration.recording import record_inputs
from gr00t.quantization.settings.environment import to_environ
from gr00t.serving.observation_file import read_observations
from gr00t.testing.synthetic import synthetic_observation

BITS = (8, 4)
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
    synthetic: int = 64
    """How many random ones."""
    recorded: int = 32
    """How many of the first are recorded and fix the static scales."""
    denoising_steps: int = 8
    """Euler steps per action chunk."""
    threads: int = 1
    """Threads of torch."""


@dataclasses.dataclass(frozen=True)
class Row:
    """What is quantized, and how."""

    label: str
    settings: str
    scheme: LinearScheme
    layers: LayerFilter


def main(arguments: Arguments) -> None:
    """Measure, print a table and the same as JSON in the last line."""
    log_to_stderr()
    torch.set_num_threads(arguments.threads)
    exact = load(arguments, torch.float32)
    policy = load(arguments, torch.bfloat16)
    requests = prepared(policy, arguments)
    recorded, unseen = requests[: arguments.recorded], requests[arguments.recorded :]
    if not unseen:
        raise SystemExit(f"error: {len(requests)} observations, and {arguments.recorded} of them recorded")
    expected = answers(policy, unseen)
    in_float32 = answers(exact, prepared(exact, arguments)[arguments.recorded :])
    found: list[dict[str, Any]] = [
        {"what": "float32", "settings": "", "layers": 0, **distance(in_float32, expected)}
    ]
    model, aliases = policy.model, module_aliases(policy.model)
    taken = {
        layer.name: layer.linear
        for layer in plan(model, DEFAULTS.scheme, rows()[-1].layers, aliases=aliases)
        if layer.spec is not None
    }
    with record_inputs(model, taken) as recording:
        answers(policy, recorded)
    statistics = recording.statistics()
    for row in tqdm(rows(), disable=None):
        policy.model = copy.deepcopy(model)
        informed = row.scheme.smoothing > 0
        report = quantize_(
            policy.model,
            row.scheme,
            row.layers,
            aliases=aliases,
            statistics={name: statistics[name] for name in taken} if informed else None,
        )
        if report.pools_requests:
            answers(policy, recorded)
        found.append(
            {
                "what": row.label,
                "settings": row.settings,
                "layers": len(report.layers),
                **distance(answers(policy, unseen), expected),
            }
        )
    print(describe_machine())
    size = max(float(np.abs(answer).max()) for answer in expected)
    print(f"{len(unseen)} observations, {arguments.denoising_steps} steps; actions up to {size:.3g}")
    print(
        "| quantized | settings | layers | error, % | largest difference |\n| --- | --- | --- | --- | --- |"
    )
    for line in found:
        print(
            f"| {line['what']} | {line['settings']} | {line['layers']} | {100 * line['error']:.2f} | "
            f"{line['largest']:.3f} |"
        )
    print(json.dumps({"rows": found, "observations": len(unseen), "largest_action": size}))


def rows() -> list[Row]:
    """The documented layers, each part beyond them alone and at each number of bits, and the scope `wide`."""
    static = DEFAULTS.scheme
    dynamic = dataclasses.replace(static, calibration_steps=0, smoothing=0.0)
    found = []
    for settings, scheme in (("dynamic", dynamic), ("documented", static)):
        found.append(Row("the documented layers", f"W4A8, {settings}", scheme, DEFAULTS.layer_filter))
        for part, pattern in BEYOND.items():
            for bits in BITS:
                only = dataclasses.replace(scheme, weight=IntFormat(bits))
                layers = LayerFilter(include=re.compile(pattern))
                found.append(Row(f"{part} alone", f"W{bits}A8, {settings}", only, layers))
        config = DuQuantConfig.from_environ(to_environ(SCOPES["wide"]), DEFAULTS)
        assert config is not None
        by_layer = config.scheme.weight_by_layer
        wide = dataclasses.replace(scheme, weight_by_layer=by_layer)
        found.append(Row("wide", f"the scope's, {settings}", wide, config.layer_filter))
        for bits in BITS:
            other = dataclasses.replace(
                scheme, weight_by_layer={f"{part}*": IntFormat(bits) for part in _BEGINNINGS}
            )
            found.append(Row("wide", f"W{bits}A8 beyond, {settings}", other, config.layer_filter))
    return found


# Of the names of the layers beyond the documented ones.
_BEGINNINGS = ("backbone.vision.", "backbone.connector", "adapter.", "action_head.layers.*.attn.")


def load(arguments: Arguments, dtype: torch.dtype) -> Gr00tPolicy:
    """The policy, not quantized."""
    config = load_data_config(arguments.data_config)
    return Gr00tPolicy(
        arguments.model_path,
        None,
        config.modality_config(),
        config.transform(),
        arguments.denoising_steps,
        "cpu",
        torch_dtype=dtype,
        environ={},
    )


def prepared(policy: Gr00tPolicy, arguments: Arguments) -> list[PreparedObservation]:
    """The requests, each under a noise of its own."""
    if arguments.observations is not None:
        observations = list(read_observations(arguments.observations))
    else:
        config, metadata = policy.get_modality_config(), policy.metadata
        observations = [
            synthetic_observation(config, metadata, PROMPT, seed)
            for seed in islice(range(10**6), arguments.synthetic)
        ]
    return [policy.prepare(seen, seeds=seed) for seed, seen in enumerate(observations)]


def answers(policy: Gr00tPolicy, requests: list[PreparedObservation]) -> list[np.ndarray]:
    """The chunks of actions (H, A), one request at a time."""
    found = []
    for request in requests:
        (answer,) = policy.get_actions([request])
        found.append(np.concatenate([answer[key].reshape(len(answer[key]), -1) for key in answer], axis=-1))
    return found


def distance(found: list[np.ndarray], expected: list[np.ndarray]) -> dict[str, float]:
    """How far answers are from those in bfloat16."""
    one, other = np.stack(found).astype(np.float64), np.stack(expected).astype(np.float64)
    return {
        "error": float(np.sqrt(np.mean((one - other) ** 2) / np.mean(other**2))),
        "largest": float(np.abs(one - other).max()),
    }


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
