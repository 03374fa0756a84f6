"""Merge a LoRA adapter into the checkpoint that it was trained on, and write the result as a checkpoint.

    python scripts/merge_adapter.py ADAPTER OUT --base CHECKPOINT

OUT has NVIDIA's layout, with the metadata of the adapter's folder or training, and the tokenizer of either.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import tyro

from gr00t.cli.running import run_command
from gr00t.files.atomic import atomic_write


@dataclasses.dataclass(frozen=True)
class MergeArguments:
    """What to merge, and where to write it."""

    adapter: tyro.conf.Positional[str]
    """Folder or model hub id of the adapter, as peft saves it."""
    out: tyro.conf.Positional[Path]
    """Folder to write; it must not exist, or be empty."""
    base: str
    """Folder or model hub id of the checkpoint that the adapter was trained on."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Of the weights that are written."""


def merge(arguments: MergeArguments) -> None:
    """Write the merged checkpoint; a folder of its name is there when it is complete.

    Raises:
        ValueError: with a message for people: no adapter, no checkpoint, or they do not fit.
        OSError: the folder is there already, or cannot be written.
    """
    import torch

    from gr00t.model.artefact import check_absent, copy_beside_weights
    from gr00t.model.checkpoint.source import open_source
    from gr00t.model.families import model_class

    check_absent(arguments.out)
    source = open_source(arguments.adapter, arguments.base)
    if source.adapter is None:
        raise ValueError(f"{source.folder} is no adapter; there is nothing to merge")
    model = model_class(source.config).from_source(source, getattr(torch, arguments.dtype))
    with atomic_write(arguments.out) as stage:
        stage.mkdir(parents=True)
        copy_beside_weights(source, stage)
        model.save_pretrained(stage)


def run(arguments: MergeArguments) -> None:
    """Merge, and say what to do next."""
    merge(arguments)
    print(f"{arguments.out}: merged; serve it with --model-path {arguments.out}")


def main() -> int:
    """Run as a program: status 0 when the checkpoint is there."""
    return run_command(MergeArguments, run, __doc__)


if __name__ == "__main__":
    raise SystemExit(main())
