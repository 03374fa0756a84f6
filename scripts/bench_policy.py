"""The whole full-size model, quantized against bf16, request by request in pairs.

    python scripts/bench_policy.py
    python scripts/bench_policy.py --steps 4 8 --rounds 9 --threads 1

Weights are random, and both models share those that are not quantized; nothing is downloaded. A request has
two images and 566 tokens, as LIBERO's have. The GR00T_DUQUANT_* variables decide how the second model is
quantized; without any: W4A8 with dynamic per-token scales.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import resource
import statistics
import time
from typing import Any

import torch
import tyro

from gr00t.console import log_to_stderr
from gr00t.machine import describe_machine
from gr00t.model.checkpoint import module_aliases
from gr00t.model.config import Gr00tConfig
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.quantization import enable_duquant_if_configured
from gr00t.quantization.config import PREFIX

_TOKENS = 566
_IMAGES = 2


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The whole full-size model, quantized against bf16, request by request in pairs."""

    steps: tuple[int, ...] = (4, 8)
    """Denoising steps."""
    rounds: int = 5
    """Timed pairs; the median counts."""
    threads: int | None = None
    """CPU threads; all of them if not given."""


def main(arguments: Arguments) -> None:
    """Print the table, and the same as JSON in the last line."""
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    print(describe_machine())
    config = Gr00tConfig.full_size()
    plain = random_model(config)
    quantized = GR00T_N1_5.on_meta(config, torch.bfloat16)
    quantized.load_state_dict(plain.state_dict(), assign=True)
    environ = {name: text for name, text in os.environ.items() if name.startswith(PREFIX)}
    environ = environ or {PREFIX + "ENABLE": "1", PREFIX + "CALIB_STEPS": "0"}
    report = enable_duquant_if_configured(quantized, environ, module_aliases(quantized))
    if report is None:
        raise SystemExit("error: the GR00T_DUQUANT_* variables switch quantization off: nothing to compare")
    print(report.memory_line())
    request = random_request(config)
    rows = []
    for steps in arguments.steps:
        for model in (plain, quantized):
            model.action_head.num_inference_timesteps = steps
        pairs = [(seconds(plain, request), seconds(quantized, request)) for _ in range(arguments.rounds + 1)][
            1:
        ]
        row = {
            "steps": steps,
            "bf16_ms": round(1e3 * statistics.median(bf16 for bf16, _ in pairs), 1),
            "fake_ms": round(1e3 * statistics.median(fake for _, fake in pairs), 1),
            "ratio": round(statistics.median(fake / bf16 for bf16, fake in pairs), 3),
        }
        rows.append(row)
        print(
            f"{steps} denoising steps: bf16 {row['bf16_ms']} ms, quantized {row['fake_ms']} ms, "
            f"median ratio {row['ratio']}",
            flush=True,
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"peak memory of this process, both models in it: {peak / 1e9:.1f} GB")
    print(json.dumps({"threads": torch.get_num_threads(), "layers": len(report.layers), "rows": rows}))


def random_model(config: Gr00tConfig) -> GR00T_N1_5:
    """The full-size architecture in bf16, with weights of a size that keeps activations finite."""
    model = GR00T_N1_5.on_meta(config, torch.bfloat16)
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, parameter in model.state_dict().items():
        value = torch.empty(parameter.shape, dtype=parameter.dtype)
        if parameter.dim() > 1:
            value.normal_(0, 0.02, generator=generator)
        else:
            value.fill_(float(name.endswith("weight")))  # norms scale by 1, biases are 0
        state[name] = value
    model.load_state_dict(state, assign=True)
    return model


def random_request(config: Gr00tConfig) -> dict[str, Any]:
    """Inputs of one request, by NVIDIA's names."""
    generator = torch.Generator().manual_seed(0)
    images = _IMAGES * config.tokens_per_image
    tokens = torch.randint(0, 1000, (1, _TOKENS), generator=generator)
    tokens[:, 20 : 20 + images] = config.image_token_index
    size = config.image_size
    return {
        "eagle_pixel_values": torch.randn(_IMAGES, 3, size, size, generator=generator),
        "eagle_input_ids": tokens,
        "eagle_attention_mask": torch.ones_like(tokens),
        "state": torch.randn(1, 1, config.max_state_dim, generator=generator),
        "embodiment_id": torch.tensor([31]),
    }


def seconds(model: GR00T_N1_5, request: dict[str, Any]) -> float:
    """Time one request."""
    start = time.perf_counter()
    model.get_action(request, seeds=[0])
    return time.perf_counter() - start


if __name__ == "__main__":
    log_to_stderr(logging.WARNING)
    main(tyro.cli(Arguments))
