"""Where log lines go when the project runs as a program. A library only logs; scripts call this once."""

from __future__ import annotations

import logging
import sys


def log_to_stderr(level: int = logging.INFO) -> None:
    """Send the log lines of this project to stderr, unadorned: `[GR00T-DUQUANT] ...` is read by people and by grep."""
    logger = logging.getLogger("gr00t")
    logger.setLevel(level)
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
