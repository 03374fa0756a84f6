"""Which requests a calibration believes: those that agree with most of the others.

One request with a state of 1e30 decided the scales of everybody: a percentile of 99.9 over 32 requests is the
largest value of any of them. So requests are held apart by how loud they are, the largest |x| that each layer
was called with, and the first group that is complete decides. A request joins a group if every layer is at
most `FACTOR` times louder or quieter than the median of the group. The first request of all is no better than
later ones: nothing is decided by a single one, and a minority decides nothing.

Measured on the demonstration policy, 40 layers, random images and 64 requests of rollouts in each of two
suites: every layer of every request was between 0.14 and 7.2 times its median, the loudest of a layer at most
26 times its quietest, and the largest input was 112. A request 32 times louder than the others leaves them 4
of the 127 steps of a scale that covers it. Networks that live with bfloat16 keep theirs below some 1e4; what
is above `LARGEST_INPUT` is left out even where all requests agree.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from statistics import median
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")

FACTOR = 32.0
LARGEST_INPUT = 1e6
# Groups that are kept at a time, and peaks that a median is taken of: memory is bounded whatever comes.
_GROUPS = 4
_REMEMBERED = 64


class Group(Generic[T]):
    """Requests that agree, and what was gathered from them.

    Attributes:
        gathered: of all of them; whoever screens adds to it.
        members: how many they are.
    """

    def __init__(self, gathered: T) -> None:
        self.gathered = gathered
        self.members = 0
        self._peaks: list[dict[str, float]] = []

    def disagreement(self, peaks: Mapping[str, float]) -> str:
        """Say in which layer `peaks` are too far from the group's; empty where they agree."""
        for name, peak in peaks.items():
            others = [known[name] for known in self._peaks if known.get(name, 0) > 0]
            usual = median(others) if others else 0.0
            if usual > 0 and peak > 0 and not usual / FACTOR <= peak <= usual * FACTOR:
                return f"|x| up to {peak:.3g} in {name}, {usual:.3g} in {self.members} others"
        return ""

    def add(self, peaks: Mapping[str, float]) -> None:
        """Count a request."""
        self.members += 1
        self._peaks = [*self._peaks[1 - _REMEMBERED :], dict(peaks)]


class Screening(Generic[T]):
    """Finds the group of every request.

    Args:
        make: makes what is gathered of a group, empty.

    Attributes:
        requests: how many were placed or left out so far.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._groups: list[Group[T]] = []
        self._said = 0
        self.requests = 0

    @property
    def largest(self) -> Group[T] | None:
        """The group of most requests, of two the older; None while there is none."""
        return max(self._groups, key=lambda group: group.members, default=None)

    @property
    def left_out(self) -> int:
        """How many requests are not in the largest group."""
        return self.requests - (self.largest.members if self.largest is not None else 0)

    def place(self, peaks: Mapping[str, float]) -> Group[T] | None:
        """Count a request to the group that it agrees with.

        Args:
            peaks: the largest |x| of every layer that was called, by name.

        Returns:
            The group, to gather the request in; None where the request is left out, which the log says.
        """
        self.requests += 1
        for name, peak in peaks.items():
            if not peak <= LARGEST_INPUT:  # also nan
                found = f"|x| above {LARGEST_INPUT:g}" if math.isfinite(peak) else "inf or nan"
                self._say(f"left out: {found} in the input of {name}")
                return None
        by_size = sorted(self._groups, key=lambda group: -group.members)
        faults = [(group, group.disagreement(peaks)) for group in by_size]
        chosen = next((group for group, fault in faults if not fault), None)
        if chosen is None:
            if faults:
                self._say(f"held apart: {faults[0][1]}; most requests decide")
            self._groups = by_size[: _GROUPS - 1]  # the smallest goes where there are too many
            chosen = Group(self._make())
            self._groups.append(chosen)
        chosen.add(peaks)
        return chosen

    def _say(self, what: str) -> None:
        """Log the first, second, fourth, eighth... time."""
        self._said += 1
        if self._said & (self._said - 1) == 0:
            logger.warning("[GR00T-DUQUANT] Calibration: request %d is %s", self.requests, what)
