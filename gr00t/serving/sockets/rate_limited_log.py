"""A log that a flood cannot fill."""

from __future__ import annotations

import logging
import time

_AT_A_TIME = 10
_PERIOD_S = 60.0


class RateLimitedLog:
    """Passes on the first lines of each minute and counts the others: any peer may provoke them."""

    def __init__(self, logger: logging.Logger) -> None:
        """Pass on to `logger`."""
        self._logger = logger
        self._until = 0.0
        self._said = 0

    def log(self, level: int, message: str, *args: object, exc_info: BaseException | None = None) -> None:
        """Log a line, unless there were many of its kind in this minute."""
        now = time.monotonic()
        if now >= self._until:
            if self._said > _AT_A_TIME:
                self._logger.warning("... and %d more like these", self._said - _AT_A_TIME)
            self._until, self._said = now + _PERIOD_S, 0
        self._said += 1
        if self._said <= _AT_A_TIME:
            shown = (_printable(arg) if isinstance(arg, str) else arg for arg in args)
            self._logger.log(level, message, *shown, exc_info=exc_info)
        elif self._said == _AT_A_TIME + 1:
            self._logger.warning("more like these within %g seconds are counted only", _PERIOD_S)


def _printable(text: str) -> str:
    """Return a text with control characters written out: a peer's text could look like other lines."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
