"""A checkpoint of GR00T N1.7 and what NVIDIA's implementation computed with it.

`tests/golden/parity_n17/tiny_n17_a` was recorded from the reference. More sets of the same kind are tried
with GR00T_PARITY_SETS=folder:folder.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from gr00t.model.gr00t_n1d7.gr00t_n1d7 import Gr00tN1d7
from tests.model.parity_set import more_sets
from tests.shell import REPO

PARITY_N17 = REPO / "tests" / "golden" / "parity_n17"
TINY = PARITY_N17 / "tiny_n17_a"
SETS = [TINY, *more_sets("Gr00tN1d7")]
INPUTS = ("image_grid_thw", "input_ids", "attention_mask", "state", "embodiment_id")


@dataclass(frozen=True)
class RecordedSet:
    """A checkpoint, the model loaded from it in float32, what the reference computed and how."""

    folder: Path
    model: Gr00tN1d7
    golden: dict[str, torch.Tensor]
    info: dict[str, Any]

    def inputs(self, batch: int) -> dict[str, torch.Tensor]:
        """The recorded request of 1 or 3 samples, under NVIDIA's input names."""
        found = {name: self.golden[f"b{batch}/inputs/{name}"].clone() for name in INPUTS}
        codes = self.golden[f"b{batch}/inputs/pixel_codes"].float()
        return found | {"pixel_values": (codes - 127.5) / 127.5}

    def noise(self, batch: int) -> torch.Tensor:
        """The recorded start of the flow, (B, H, A)."""
        return self.golden[f"b{batch}/inputs/noise"]

    def act(self, batch: int, steps: int = 4, **kwargs: Any) -> torch.Tensor:
        """The action (B, H, A) for the recorded request; the recorded noise unless told otherwise."""
        self.model.action_head.num_inference_timesteps = steps
        return self.model.get_action(self.inputs(batch), **(kwargs or {"noise": self.noise(batch)}))[
            "action_pred"
        ]

    @classmethod
    def load(cls, folder: Path) -> RecordedSet:
        """Read a set; the model in float32."""
        golden = _read(folder)
        info = json.loads((folder / "golden_info.json").read_text())
        return cls(folder, Gr00tN1d7.from_pretrained(folder), golden, info)


@cache
def _read(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "golden.safetensors")
