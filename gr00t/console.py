"""What programs of this project have in common: where log lines go, and where `~` is."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Sequence


def log_to_stderr(level: int = logging.INFO) -> None:
    """Send this project's log lines to stderr, unadorned: people and grep read `[GR00T-DUQUANT] ...`.

    A library only logs; programs call this once.
    """
    logger = logging.getLogger("gr00t")
    logger.setLevel(level)
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)


def at_home(words: Sequence[str]) -> list[str]:
    """A command line with `~/` as the home folder, also in `--flag=~/folder`: shells leave that as it is.

    A user without a home keeps the `~`.
    """
    home = os.path.expanduser("~")
    return [re.sub(r"^(--[\w-]+=|)~(?=/|$)", lambda found: found[1] + home, word) for word in words]
