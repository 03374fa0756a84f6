"""Where log lines go when the project runs as a program. A library only logs; scripts call this once."""

from __future__ import annotations

import logging
import sys


def log_to_stderr(level: int = logging.INFO) -> None:
    """Send this project's log lines to stderr, unadorned: people and grep read `[GR00T-DUQUANT] ...`."""
    logger = logging.getLogger("gr00t")
    logger.setLevel(level)
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
