"""What a waiting user wants to know: how far, how well, how fast, how long."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from gr00t.eval.rollout.records import EpisodeRecord

logger = logging.getLogger(__name__)


class Progress:
    """Counts episodes and logs a line now and then.

    Args:
        arm: Name of the arm that plays.
        total: Its episodes.
        left_elsewhere: Episodes of the arms that follow.
        interval_s: Seconds between lines.
        clock: Seconds from any beginning.
    """

    def __init__(
        self,
        arm: str,
        total: int,
        *,
        left_elsewhere: int = 0,
        interval_s: float = 15.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._arm = arm
        self._total = total
        self._left_elsewhere = left_elsewhere
        self._interval_s = interval_s
        self._clock = clock
        self._started = self._said = clock()
        self._done = self._here = self._played = self._won = self._errors = 0

    def count(self, record: EpisodeRecord, *, now: bool = True) -> None:
        """Take an episode into account; `now` is False for one of an earlier session, which says no speed."""
        self._done += 1
        self._here += now
        self._played += record.was_played
        self._errors += not record.was_played
        self._won += record.outcome.success is True
        if now and (self._clock() - self._said >= self._interval_s or self._done == self._total):
            self._said = self._clock()
            logger.info("%s", self.line())

    @property
    def episodes_per_hour(self) -> float:
        """Speed of this session; 0.0 before its first episode."""
        elapsed = self._clock() - self._started
        return 3600.0 * self._here / elapsed if elapsed > 0 else 0.0

    def line(self) -> str:
        """Where things stand, in one line."""
        parts = [f"{self._arm}: {self._done}/{self._total} episodes"]
        if self._played:
            rate = 100.0 * self._won / self._played
            parts.append(f"{self._won}/{self._played} succeeded ({rate:.1f} %)")
        if self._errors:
            parts.append(f"{self._errors} simulator errors")
        speed = self.episodes_per_hour
        if speed:
            parts.append(f"{speed:.0f} episodes/h")
            left = self._total - self._done + self._left_elsewhere
            if left:
                parts.append(f"{duration(3600.0 * left / speed)} left")
        return ", ".join(parts)


def duration(seconds: float) -> str:
    """`45 s`, `12 min` or `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
