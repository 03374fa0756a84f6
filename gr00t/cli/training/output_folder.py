"""The folder that --output names: made, kept to one training at a time, and removed if it stays empty."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from gr00t.cli.errors import UsageError
from gr00t.files.locks import lock
from gr00t.files.output_folder import writing
from gr00t.training.run_checkpoints import checkpoints_of
from gr00t.training.state import STATE_FILE

logger = logging.getLogger("gr00t.train")


@contextlib.contextmanager
def made(output: Path) -> Iterator[None]:
    """Make the folder of a run; it is removed again if nothing was put into it."""
    with writing(output, "--output"):
        output.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        remove_if_unused(output)


@contextlib.contextmanager
def alone_in(output: Path) -> Iterator[None]:
    """Keep other trainings out of a folder: two would remove each other's checkpoints and mix their logs.

    Raises:
        UsageError: one is at work there.
    """
    handle = os.open(output, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if not _locked(handle, output):
            raise UsageError(
                f"{output}: another training is at work there; wait for it, or name another folder with "
                "--output"
            )
        yield
    finally:
        os.close(handle)


def remove_if_unused(output: Path) -> None:
    """Remove the folder of a run that put nothing into it, unless another one is about to."""
    with contextlib.suppress(FileNotFoundError):
        handle = os.open(output, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if not any(output.iterdir()) and _locked(handle, output):
                output.rmdir()
        finally:
            os.close(handle)


def _locked(handle: int, output: Path) -> bool:
    """Lock an open folder until it is closed; False if another process has done so."""
    locked = lock(handle)
    if locked is None:
        logger.warning("%s: cannot be locked: start no other training there meanwhile", output)
    return locked is not False


def check_output(output: Path, resume: bool | None) -> None:
    """Find out whether there is something to go on from where there must be, and nothing where not.

    Args:
        output: folder of the run.
        resume: whether it must go on (True), must begin (False), or does either.

    Raises:
        UsageError: it is not so.
    """
    steps = [step for step, _ in checkpoints_of(output)]
    if (output / STATE_FILE).is_file():
        steps.append(0)
    if resume and not steps:
        raise UsageError(
            f"--resume: {output} has no checkpoint-N with a {STATE_FILE} to go on from; without --resume the "
            "run begins, or --output names its folder"
        )
    if resume is False and steps:
        raise UsageError(
            f"{output} holds a run up to step {max(steps)}, whose checkpoints this one would replace; go on "
            "with --resume, or name another folder with --output-dir"
        )
