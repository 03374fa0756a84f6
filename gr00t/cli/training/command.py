"""A training as a program: its command line read at once, all else imported when it is right."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from gr00t.cli.checks.needed import check_installed
from gr00t.cli.running import run_program
from gr00t.cli.training.arguments import TrainArguments
from gr00t.cli.training.command_line import parse

if TYPE_CHECKING:
    from gr00t.cli.training.program import LossesOf


def train_as_asked(
    kind: type[TrainArguments], description: str | None, losses_of: LossesOf | None = None
) -> int:
    """Run as a program: status 0 when the checkpoint is there, 2 for wrong flags, 1 for everything else.

    Args:
        kind: of the flags.
        description: for the help.
        losses_of: returns what is learned by; flow matching alone if there is none.
    """
    # Where --resume is not the default, the same command would begin again.
    more = ", with --resume," if kind().resume is False else ""
    return run_program(
        lambda: _train(kind, description, losses_of),
        interrupted=f"interrupted; the same command{more} goes on from the last save",
    )


def _train(kind: type[TrainArguments], description: str | None, losses_of: LossesOf | None) -> int:
    words = sys.argv[1:]
    arguments = parse(kind, description, words)
    check_installed(("av", "pyarrow"), "train")
    # Importing torch and transformers takes seconds.
    from gr00t.cli.training.program import flow_matching_alone, run

    return run(arguments, words, losses_of or flow_matching_alone)
