"""Samples of a data set, one time step at a time, each episode read when it is first asked for.

`LeRobotDataset` reads all rows at once and gives batches of float32, for training. This is for looking at a
data set: it opens at once, however large the set is, and numbers come as they are stored.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gr00t.data.dataset import ModalityConfig
from gr00t.data.lerobot.frames.camera_frames import CameraFrames
from gr00t.data.lerobot.frames.frames_on_demand import DecodedFrames
from gr00t.data.lerobot.frames.image_columns import open_images
from gr00t.data.lerobot.frames.video_files import all_frame_times
from gr00t.data.lerobot.meta.faults import Fault, raise_faults
from gr00t.data.lerobot.meta.features import is_image
from gr00t.data.lerobot.meta.layout import Layout
from gr00t.data.lerobot.rows.contents import Texts, keys_of
from gr00t.data.lerobot.rows.opened import open_set
from gr00t.data.lerobot.rows.row_frames import FrameRule
from gr00t.data.lerobot.rows.tables import read_tables

_KEPT = 8  # episodes


@dataclasses.dataclass(frozen=True)
class _Episode:
    """What is known of an episode of T rows.

    Attributes:
        numbers: by state and action key, (T, A), as they are stored.
        texts: by annotation key.
        frames: by camera key.
        frame_of_row: by camera key (T,).
    """

    numbers: dict[str, NDArray[Any]]
    texts: dict[str, Texts]
    frames: dict[str, CameraFrames]
    frame_of_row: dict[str, NDArray[np.int64]]


class EpisodeSamples:
    """The time steps of every episode.

    Args:
        layout: of the data set.
        modalities: keys and time steps of video, state, action and language.
        rule: which frame belongs to a time stamp, see `row_frames`.
    """

    def __init__(
        self, layout: Layout, modalities: Mapping[str, ModalityConfig], rule: FrameRule = "nearest"
    ) -> None:
        self._layout = layout
        self._rule = rule
        self._modalities = modalities
        self._opened: OrderedDict[int, _Episode] = OrderedDict()
        self._told = False

    def get(self, position: int, kind: str, key: str, step: int) -> Any:
        """Return what one key has at a time step and those around it that its modality names.

        Args:
            position: of the episode in the layout.
            kind: video, state, action or language.
            key: `video.image` and the like.
            step: of the episode. Before its first and after its last one the episode goes on as that was, but
                for numbers that are changes: those are zero.

        Returns:
            (T, H, W, 3) uint8, (T, A) float64, or T texts.

        Raises:
            DatasetError: the episode cannot be read.
        """
        episode = self._episode(position)
        wanted = step + np.asarray(self._modalities[kind].delta_indices, dtype=np.int64)
        inside = wanted.clip(0, self._layout.episodes[position].length - 1)
        if kind == "video":
            return episode.frames[key].at(episode.frame_of_row[key][inside])
        if kind == "language":
            texts = episode.texts[key]
            return texts.texts[texts.numbers[inside]].tolist()
        values = episode.numbers[key][inside].astype(np.float64)
        if not self._layout.modality.columns[key].absolute:
            values[wanted != inside] = 0.0
        return values

    def __getstate__(self) -> dict[str, Any]:
        """Another process opens the files anew."""
        return {**self.__dict__, "_opened": OrderedDict()}

    def _episode(self, position: int) -> _Episode:
        if position in self._opened:
            self._opened.move_to_end(position)
        else:
            self._opened[position] = self._open(position)
            if len(self._opened) > _KEPT:
                self._opened.popitem(last=False)
        return self._opened[position]

    def _open(self, position: int) -> _Episode:
        """Read an episode as if there were no other."""
        alone = dataclasses.replace(self._layout, episodes=(self._layout.episodes[position],))
        times: dict[tuple[Path, ...], list[NDArray[np.float64]]] = {}

        def times_of(files: Sequence[Path]) -> Sequence[NDArray[np.float64]]:
            return times.setdefault(tuple(files), all_frame_times(files))

        faults: list[Fault] = []
        # What is odd of one is so of most: it is said of the first, not at each of a thousand openings.
        opened = open_set(alone, self._modalities, times_of, faults, self._rule, tell=not self._told)
        self._told = True
        columns = {} if opened is None else opened.contents.columns
        names = dict.fromkeys(column.original_key for column in columns.values())
        tables = None if opened is None else read_tables(alone, names, set(), faults)
        raise_faults(alone.folder, faults)
        assert opened is not None, "what keeps a set from being read is a fault"
        assert tables is not None, "what keeps a set from being read is a fault"
        numbers = {}
        for key, column in columns.items():
            values = tables.columns[column.original_key][0]
            numbers[key] = values.reshape(len(values), -1)[:, column.start : column.end]
        frames: dict[str, CameraFrames] = {
            key: DecodedFrames(files, times[tuple(files)]) for key, files in opened.videos.items()
        }
        frame_of_row = dict(opened.frame_of_row)
        for key in keys_of(self._modalities, "video"):
            feature = self._layout.modality.cameras[key]
            if is_image(self._layout.features, feature):
                # The copy of the images is opened, and stays readable when its folder is gone.
                with tempfile.TemporaryDirectory() as folder:
                    frames[key], frame_of_row[key] = open_images(
                        alone, feature, opened.contents.places, Path(folder)
                    )
        return _Episode(numbers, opened.contents.texts, frames, frame_of_row)
