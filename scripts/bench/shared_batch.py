"""How far an answer moves when other requests share its forward.

    python scripts/bench/shared_batch.py
    python scripts/bench/shared_batch.py --dtype float32

Each observation is answered alone, then in a batch of others under the same seed: with prompts of the same
length, and beside one whose prompt is longer, so that it is padded. The GR00T_DUQUANT_* variables apply. The
last line is JSON.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from typing import Any, Literal

import numpy as np
import torch
import tyro

from gr00t.console import log_to_stderr
from gr00t.experiment.data_config import load_data_config
from gr00t.machine import describe_machine
from gr00t.model.policy import Gr00tPolicy
from gr00t.testing.synthetic import synthetic_observation

PROMPT = "pick up the milk and place it in the basket"
OTHER = "pick up the soup and place it in the basket"
LONGER = "pick up the alphabet soup next to the butter and place it in the basket beside the table"

Answer = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Arguments:
    """How far an answer moves when other requests share its forward."""

    model_path: str = "examples/Libero/demo_policy"
    """Checkpoint."""
    data_config: str = "examples.Libero.demo_data_config:DemoDataConfig"
    """Its data configuration."""
    embodiment_tag: str = "new_embodiment"
    """Whose statistics and action head."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Precision of what is not quantized."""
    observations: int = 24
    """How many answers are compared."""
    company: int = 7
    """How many others share a forward."""
    denoising_steps: int = 4
    """Euler steps per action chunk."""
    threads: int = 1
    """Threads of torch."""


def main(arguments: Arguments) -> None:
    """Measure, print a table and the same as JSON in the last line."""
    log_to_stderr()
    torch.set_num_threads(arguments.threads)
    config = load_data_config(arguments.data_config)
    policy = Gr00tPolicy(
        arguments.model_path,
        arguments.embodiment_tag,
        config.modality_config(),
        config.transform(),
        denoising_steps=arguments.denoising_steps,
        torch_dtype=getattr(torch, arguments.dtype),
        seed=0,
    )

    def prepared(prompt: str, seed: int) -> Any:
        observation = synthetic_observation(policy.get_modality_config(), policy.metadata, prompt, seed)
        return policy.prepare(observation, seeds=seed)

    others = range(1000, 1000 + arguments.company)
    companies = {
        "same length": [prepared(OTHER, seed) for seed in others],
        "beside a longer prompt": [prepared(LONGER, seed) for seed in others],
    }
    moved: dict[str, list[float]] = {name: [] for name in companies}
    largest = 0.0
    for seed in range(arguments.observations):
        mine = prepared(PROMPT, seed)
        (alone,) = policy.get_actions([mine])
        largest = max(largest, *(float(np.abs(action).max()) for action in alone.values()))
        for name, company in companies.items():
            moved[name].append(distance(policy.get_actions([mine, *company])[0], alone))

    print(describe_machine())
    layers = 0 if policy.quantization is None else len(policy.quantization.layers)
    print(f"{arguments.dtype}, {layers} layers quantized; actions up to {largest:.3g}")
    rows = {name: {"max": max(far), "median": statistics.median(far)} for name, far in moved.items()}
    for name, row in rows.items():
        print(f"{name:<24} moved by at most {row['max']:.2g}, median {row['median']:.2g}")
    print(json.dumps({"dtype": arguments.dtype, "layers": layers, "largest": largest, "moved": rows}))


def distance(one: Answer, other: Answer) -> float:
    """The largest difference of any action."""
    return max(float(np.abs(one[key] - other[key]).max()) for key in other)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
