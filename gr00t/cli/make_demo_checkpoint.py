"""Write a small GR00T N1.5 checkpoint with random weights, in NVIDIA's layout, with a tokenizer of its own.

It loads, quantizes, serves and moves the arm like a real one. It has learned nothing: it solves no task.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import tyro

from gr00t.model.checkpoint.config import Gr00tConfig
from gr00t.testing.random_checkpoint import write_random_checkpoint


@dataclasses.dataclass(frozen=True)
class Args:
    """What to write and where."""

    folder: Path
    """where the checkpoint goes; made where it does not exist"""
    seed: int = 0
    """of the weights: the same seed gives the same bytes"""
    full_size: bool = False
    """the architecture of nvidia/GR00T-N1.5-3B (5 GB) instead of a small one; without a tokenizer"""


def run(args: Args) -> None:
    """Write the checkpoint and say how large it is."""
    config = Gr00tConfig.full_size() if args.full_size else None
    folder = write_random_checkpoint(args.folder, config, seed=args.seed)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"{folder}: random weights, {size / 1e6:.1f} MB. It solves no task.")


def main() -> None:
    """Run as a program."""
    run(tyro.cli(Args, description=__doc__))
