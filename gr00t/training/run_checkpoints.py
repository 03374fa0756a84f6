"""The checkpoints of a run: `checkpoint-N` folders, each with weights that load and the state to go on from.

A folder gets its name when it is whole. Before that it is hidden and its weights have no config.json, and
while it is removed it has another name: whoever is killed at any time leaves no `checkpoint-N` that is less
than it seems, and nothing half that loads.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gr00t.files.atomic import atomic_write, unfinished
from gr00t.files.private_folder import remove
from gr00t.model.checkpoint.config import CONFIG_FILE
from gr00t.training.state import STATE_FILE

_NAME = re.compile(r"checkpoint-(\d+)")
_REMOVED = re.compile(r"\.checkpoint-\d+\.removed")
_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")


def checkpoints_of(run: Path) -> list[tuple[int, Path]]:
    """Step and folder of every checkpoint that a run could go on from, the newest first."""
    if not run.is_dir():
        return []
    found = [(match, path) for path in run.iterdir() if (match := _NAME.fullmatch(path.name))]
    states = [(int(match[1]), path) for match, path in found if (path / STATE_FILE).is_file()]
    return sorted(states, reverse=True)


@contextmanager
def new_checkpoint(run: Path, step: int) -> Iterator[Path]:
    """A folder to write into, which becomes `checkpoint-{step}` when the block ends without an error.

    config.json is to be written last: without it nothing loads what else is there.
    """
    target = run / f"checkpoint-{step}"
    with atomic_write(target) as partial:
        partial.mkdir(parents=True)
        yield partial
        if target.exists():
            remove_checkpoint(target)


def keep_newest(run: Path, count: int) -> None:
    """Remove all checkpoints of a run but the `count` newest; 0 keeps all."""
    if count:
        for _, folder in checkpoints_of(run)[count:]:
            remove_checkpoint(folder)


def remove_checkpoint(folder: Path) -> None:
    """Remove a checkpoint, its name first."""
    aside = folder.with_name(f".{folder.name}.removed")
    remove(aside)
    folder.rename(aside)
    shutil.rmtree(aside)


def remove_remains(run: Path) -> None:
    """Remove what a killed run was writing or removing."""
    removed = [path for path in run.iterdir() if _REMOVED.fullmatch(path.name)]
    for path in (*unfinished(run), *removed):
        remove(path)


def publish(checkpoint: Path, target: Path) -> None:
    """Show a checkpoint under another name, without the state of its run; weights take no space again.

    Args:
        checkpoint: a whole one.
        target: a folder; weights that were there before are replaced, other files stay.
    """
    target.mkdir(parents=True, exist_ok=True)
    # Without it the folder does not load until all is there.
    (target / CONFIG_FILE).unlink(missing_ok=True)
    for old in [path for path in target.iterdir() if _SHARD.fullmatch(path.name)]:
        old.unlink()
    # CONFIG_FILE last.
    for source in sorted(checkpoint.iterdir(), key=lambda path: path.name == CONFIG_FILE):
        if source.is_dir():
            shutil.copytree(source, target / source.name, dirs_exist_ok=True)
        elif source.name != STATE_FILE:
            _put(source, target / source.name)


def _put(source: Path, target: Path) -> None:
    """Copy a file; weights, which nobody edits, are linked where the file system can."""
    with atomic_write(target) as aside:
        if _SHARD.fullmatch(source.name):
            with suppress(OSError):  # some file systems know no links
                os.link(source, aside)
                return
        shutil.copyfile(source, aside)
