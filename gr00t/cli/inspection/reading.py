"""What can be read of a data set: all of it, or what the faults leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gr00t.data.dataset import ModalityConfig
from gr00t.data.lerobot.check import all_keys, examine
from gr00t.data.lerobot.frames.frames_on_demand import DecodedFrames
from gr00t.data.lerobot.frames.video_files import all_frame_times
from gr00t.data.lerobot.meta.faults import Fault
from gr00t.data.lerobot.meta.layout import Layout
from gr00t.data.lerobot.rows.contents import Texts, keys_of
from gr00t.data.lerobot.rows.opened import OpenedSet, open_set
from gr00t.data.lerobot.rows.tables import Place


class FrameTimes:
    """When the frames of videos are shown: found once a file, since that reads through all of it."""

    def __init__(self) -> None:
        self._known: dict[Path, NDArray[np.float64]] = {}

    def __call__(self, videos: Sequence[Path]) -> list[NDArray[np.float64]]:
        """Per video (F,) in seconds.

        Raises:
            DatasetError: that cannot be told of a video.
        """
        new = [path for path in videos if path not in self._known]
        self._known.update(zip(new, all_frame_times(new), strict=True))
        return [self._known[path] for path in videos]


@dataclass
class Readable:
    """The part of a data set that can be read.

    Attributes:
        layout: with those of the episodes alone.
        times: of the frames of videos.
        numbers: of the state and action keys, (N, A).
        texts: of the annotations.
        stamps: per episode, of its rows, in seconds.
        places: per episode, where its rows are.
        frame_of_row: per camera with videos, (N,), counted over all of its files.
    """

    layout: Layout
    times: FrameTimes
    numbers: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    texts: dict[str, Texts] = field(default_factory=dict)
    stamps: list[NDArray[np.float64]] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    frame_of_row: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    _frames: dict[str, DecodedFrames] = field(default_factory=dict)

    def frames(self, camera: str) -> DecodedFrames:
        """The frames of a camera with videos.

        Raises:
            DatasetError: the first one cannot be decoded.
        """
        if camera not in self._frames:
            videos = self.layout.videos(camera)
            self._frames[camera] = DecodedFrames(videos, self.times(videos))
        return self._frames[camera]

    def add(self, opened: OpenedSet) -> None:
        """Take over what was opened."""
        self.numbers.update(opened.contents.numbers)
        self.texts.update(opened.contents.texts)
        self.stamps = opened.contents.stamps or self.stamps
        self.places = opened.contents.places
        self.frame_of_row.update(opened.frame_of_row)

    def episode_of(self, row: int) -> tuple[int, int]:
        """The place of an episode in the list, and the row in it, of a row counted over all of them."""
        ends = np.cumsum([episode.length for episode in self.layout.episodes])
        number = int(np.searchsorted(ends, row, side="right"))
        return number, row - int(ends[number]) + self.layout.episodes[number].length


def read(folder: Path) -> tuple[list[Fault], Layout | None, Readable | None]:
    """Return everything that is wrong, what the descriptions say, and what can be read.

    Of a set with faults that are the episodes whose files have none, and of these the keys that have none.
    """
    times = FrameTimes()
    found = examine(folder, times_of=times)
    if found.layout is None:
        return found.faults, None, None
    if found.opened is not None:
        whole = Readable(found.layout, times)
        whole.add(found.opened)
        return found.faults, found.layout, whole
    return found.faults, found.layout, _rest(found.layout, found.faults, times)


def _rest(layout: Layout, faults: Sequence[Fault], times: FrameTimes) -> Readable | None:
    wanted = all_keys(layout)
    for _ in range(2):  # what was not looked at because of the first faults may have others
        layout = _without(layout, faults)
        if not layout.episodes:
            return None
        more: list[Fault] = []
        opened = open_set(layout, wanted, times, more)
        if opened is not None:
            readable = Readable(layout, times)
            readable.add(opened)
            return readable
        faults = more
    readable = Readable(layout, times)
    for kind in wanted:
        for key in keys_of(wanted, kind):
            opened = open_set(layout, _only(kind, key), times, [])
            if opened is not None:
                readable.add(opened)
    return readable if readable.places else None


def _only(kind: str, key: str) -> Mapping[str, ModalityConfig]:
    return {kind: ModalityConfig(delta_indices=[0], modality_keys=[key])}


def _without(layout: Layout, faults: Sequence[Fault]) -> Layout:
    """The same but for the episodes of which a file has a fault."""
    damaged = {fault.file for fault in faults}
    kept = [
        episode
        for episode in layout.episodes
        if episode.data_file not in damaged and not damaged & {clip.path for clip in episode.clips.values()}
    ]
    return replace(layout, episodes=tuple(kept))
