"""Rounds weights by llmcompressor's GPTQ, where that is installed: PYTHON THIS LAYERS ROUNDED GROUP BITS.

LAYERS is a safetensors file with the weight (N, K) of every layer, `NAME.weight`, and the rows that it is
rounded by, `NAME.rows` (M, K); ROUNDED gets the weights as they are multiplied then, `NAME`. All float32.
Settings are llmcompressor's own: an asymmetric format, a scale and a zero point per group; channels in the
order of the Hessian's diagonal ("static"); damping 0.01. Imports nothing of this project, which is not
installed there.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from llmcompressor.core import Event, State
from llmcompressor.modifiers.gptq import GPTQModifier
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


def main(layers: Path, rounded: Path, group: int, bits: int) -> None:
    """Round every weight of `layers` and write `rounded`."""
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    given = load_file(layers)
    names = [name.removesuffix(".weight") for name in given if name.endswith(".weight")]
    found = {name: gptq(given[f"{name}.weight"], given[f"{name}.rows"], group, bits) for name in names}
    save_file(found, rounded)


def gptq(weight: Tensor, rows: Tensor, group: int, bits: int) -> Tensor:
    """Return a weight (N, K) as it is multiplied, rounded by its inputs' rows (M, K)."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    linear.weight.data = weight.clone()
    fmt = {"num_bits": bits, "type": "int", "symmetric": False, "strategy": "group", "group_size": group}
    modifier = GPTQModifier(config_groups={"all": {"targets": ["Linear"], "weights": fmt}})
    state, event = State(model=nn.Sequential(linear)), Event()
    modifier.on_initialize(state)
    modifier.on_calibration_start(state, event)
    state.model(rows)
    modifier.on_sequential_epoch_end(state, event, [linear])
    modifier.on_calibration_end(state, event)
    return linear.weight.data.contiguous()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]), *map(int, sys.argv[3:]))
