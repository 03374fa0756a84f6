"""Write a small GR00T N1.5 checkpoint with random weights, in NVIDIA's layout, with a tokenizer of its own.

It loads, quantizes, serves and moves the arm like a real one. It has learned nothing: it solves no task.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from gr00t.cli.running import run_command


@dataclasses.dataclass(frozen=True)
class MakeDemoCheckpointArguments:
    """What to write and where."""

    folder: Path
    """where the checkpoint goes; made where it does not exist"""
    seed: int = 0
    """of the weights: the same seed gives the same bytes"""
    full_size: bool = False
    """the architecture of nvidia/GR00T-N1.5-3B (5 GB) instead of a small one; without a tokenizer"""


def run(arguments: MakeDemoCheckpointArguments) -> None:
    """Write the checkpoint and say how large it is."""
    from gr00t.model.checkpoint.config import Gr00tConfig
    from gr00t.testing.random_checkpoint import write_random_checkpoint

    config = Gr00tConfig.full_size() if arguments.full_size else None
    folder = write_random_checkpoint(arguments.folder, config, seed=arguments.seed)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"{folder}: random weights, {size / 1e6:.1f} MB. It solves no task.")


def main() -> int:
    """Run as a program."""
    return run_command(MakeDemoCheckpointArguments, run, __doc__)


if __name__ == "__main__":
    raise SystemExit(main())
