"""A checkpoint and what NVIDIA's implementation computed with it.

`tests/golden/parity/tiny_a` was recorded from the reference. More sets of the same kind are tried with
GR00T_PARITY_SETS=folder:folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from gr00t.model.gr00t_n1 import GR00T_N1_5
from tests.shell import REPO

PARITY = REPO / "tests" / "golden" / "parity"


def more_sets(model_type: str) -> list[Path]:
    """The folders of GR00T_PARITY_SETS whose config.json is of this type."""
    named = [Path(folder) for folder in os.environ.get("GR00T_PARITY_SETS", "").split(os.pathsep) if folder]
    return [
        folder
        for folder in named
        if json.loads((folder / "config.json").read_text()).get("model_type") == model_type
    ]


SETS = [PARITY / "tiny_a", *more_sets("gr00t_n1_5")]
ACTION_TOLERANCE = 2e-5


@dataclass(frozen=True)
class ParitySet:
    """A checkpoint, the model loaded from it in float32, and the reference's tensors."""

    folder: Path
    model: GR00T_N1_5
    golden: dict[str, torch.Tensor]

    def inputs(self, batch: int) -> dict[str, torch.Tensor]:
        """The recorded request of 1 or 3 samples, under NVIDIA's input names."""
        names = {
            "eagle_pixel_values": "pixel_values",
            "eagle_input_ids": "input_ids",
            "eagle_attention_mask": "attention_mask",
            "state": "state",
            "embodiment_id": "embodiment_id",
        }
        return {ours: self.golden[f"b{batch}/inputs/{theirs}"].clone() for ours, theirs in names.items()}

    def noise(self, batch: int) -> torch.Tensor:
        """The recorded start of the flow, (B, H, A)."""
        return self.golden[f"b{batch}/inputs/noise"]

    def act(self, batch: int, steps: int = 4, **kwargs: object) -> torch.Tensor:
        """The action (B, H, A) for the recorded request; the recorded noise unless told otherwise."""
        self.model.action_head.num_inference_timesteps = steps
        kwargs = kwargs or {"noise": self.noise(batch)}
        return self.model.get_action(self.inputs(batch), **kwargs)["action_pred"]

    @classmethod
    def load(cls, folder: Path) -> ParitySet:
        """Read a set; the model in float32."""
        return cls(folder, GR00T_N1_5.from_pretrained(folder), load_file(folder / "golden.safetensors"))


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Change the tensors of a copied checkpoint."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
