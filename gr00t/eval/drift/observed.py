"""Observations and the episodes that they are from: read from a file, or taken from a data set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gr00t.eval.drift.chunks import DriftError
from gr00t.eval.drift.digests import digest
from gr00t.eval.open_loop import Recordings
from gr00t.serving.observation_file import EPISODE, read_observations


@dataclass(frozen=True)
class ObservedEpisodes:
    """N observations.

    Attributes:
        observations: as a policy takes them.
        episodes: number of the episode that each is from.
    """

    observations: list[dict[str, Any]] = field(default_factory=list)
    episodes: list[int] = field(default_factory=list)

    @property
    def episode_count(self) -> int:
        """How many episodes there are."""
        return len(set(self.episodes))

    @property
    def repeated(self) -> int:
        """How many observations are in an earlier episode, too: these episodes are not two."""
        first: dict[str, int] = {}
        pairs = zip(self.observations, self.episodes, strict=True)
        return sum(first.setdefault(digest(seen), episode) != episode for seen, episode in pairs)

    def hold_out(self, wanted: int) -> tuple[ObservedEpisodes, ObservedEpisodes]:
        """Return all but the last episodes, and these: as few as have `wanted` observations, at least two."""
        order = list(dict.fromkeys(self.episodes))
        last: set[int] = set()
        while order and (len(last) < 2 or sum(episode in last for episode in self.episodes) < wanted):
            last.add(order.pop())
        return self._of(set(order)), self._of(last)

    def _of(self, episodes: set[int]) -> ObservedEpisodes:
        chosen = [index for index, episode in enumerate(self.episodes) if episode in episodes]
        return ObservedEpisodes(
            [self.observations[index] for index in chosen], [self.episodes[index] for index in chosen]
        )


def read_observed(path: Path, per_episode: int | None = None) -> ObservedEpisodes:
    """Read a file of observations.

    Args:
        path: of `gr00t.serving.observation_file`.
        per_episode: so many in a row are of one episode; None: each says itself which one it is from.

    Raises:
        DriftError: there are none, or one does not say its episode.
        ObservationFileError: the file is damaged.
        OSError: it cannot be read.
    """
    found = ObservedEpisodes()
    for index, observation in enumerate(read_observations(path)):
        said = observation.pop(EPISODE, None)
        if per_episode is not None:
            said = index // per_episode
        elif isinstance(said, bool) or not isinstance(said, int):
            raise DriftError(
                f"{path}: observation {index} does not say which episode it is from, by a number as "
                f"{EPISODE!r}: give --per-episode N if N in a row are of one, or record the file anew"
            )
        found.observations.append(observation)
        found.episodes.append(said)
    if not found.observations:
        raise DriftError(f"{path}: no observation in this file")
    return found


def observe(recordings: Recordings, lengths: Mapping[int, int], wanted: int) -> ObservedEpisodes:
    """Take observations from recorded episodes, as many of each and evenly over its steps.

    Args:
        recordings: a data set.
        lengths: steps of each episode to take some of, by its number.
        wanted: how many in all; fewer where the episodes are shorter.
    """
    found = ObservedEpisodes()
    for place, (episode, length) in enumerate(lengths.items()):
        count = min(length, wanted // len(lengths) + (place < wanted % len(lengths)))
        for step in np.linspace(0, length - 1, count).round().astype(int).tolist():
            sample = recordings.get_step_data(episode, step)
            found.observations.append(
                {key: value for key, value in sample.items() if not key.startswith("action.")}
            )
            found.episodes.append(episode)
    return found


def check_apart(recorded: Iterable[dict[str, Any]], judged: Iterable[dict[str, Any]]) -> None:
    """Check that nothing is judged by what it was calibrated by.

    Raises:
        DriftError: an observation is among both.
    """
    check_digests_apart(map(digest, recorded), judged)


def check_digests_apart(recorded: Iterable[str], judged: Iterable[Mapping[str, Any]]) -> None:
    """Check the same, where of what calibrated the digests alone are left; see `check_apart`."""
    seen = set(recorded)
    common = sum(digest(observation) in seen for observation in judged)
    if common:
        raise DriftError(
            f"{common} of the observations to judge by are among those to calibrate by: an arm would be "
            "judged by what it was fitted to"
        )
