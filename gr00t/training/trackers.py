"""Where the figures of a training go besides its log: event files for TensorBoard, or nowhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

# What event files are written with.
WRITER_PACKAGE = "tensorboardX"
# Names that Isaac-GR00T's trainer reports under; others are told under their own.
_NAMES = {"gradient_norm": "grad_norm"}


class Tracker:
    """Reports nowhere."""

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        """Report the figures of a step."""


class EventFiles(Tracker):
    """Event files in a folder.

    Args:
        folder: made where it does not exist.
        first: step from which on what is there no longer counts: a run that goes on repeats some.
    """

    def __init__(self, folder: Path, first: int) -> None:
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=first)

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        """Write the figures of a step, at once."""
        for name, value in figures.items():
            self._writer.add_scalar(f"train/{_NAMES.get(name, name)}", value, step)
        self._writer.flush()

    def close(self) -> None:
        """End the file."""
        self._writer.close()


@contextmanager
def open_tracker(report_to: str | None, output: Path, first: int) -> Iterator[Tracker]:
    """The tracker that was asked for, closed in the end."""
    if report_to != "tensorboard":
        yield Tracker()
        return
    files = EventFiles(output / "runs", first)
    try:
        yield files
    finally:
        files.close()
