"""Where the figures of a training go besides its log: event files for TensorBoard, or nowhere."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from gr00t.cli.training.arguments import Reports
from gr00t.cli.training.command_line import UsageError

_WRITER = "tensorboardX"
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


def check_report(report_to: Reports | None) -> None:
    """Find out at the start whether the tracker is there.

    Raises:
        UsageError: the package is not installed.
    """
    if report_to == "tensorboard" and importlib.util.find_spec(_WRITER) is None:
        raise UsageError(
            f"--report-to tensorboard needs the package {_WRITER}, which is not installed; run: "
            "scripts/setup_env.sh train"
        )


@contextmanager
def open_tracker(report_to: Reports | None, output: Path, first: int) -> Iterator[Tracker]:
    """The tracker that was asked for, closed in the end."""
    if report_to != "tensorboard":
        yield Tracker()
        return
    files = EventFiles(output / "runs", first)
    try:
        yield files
    finally:
        files.close()
