"""A data set as batches of samples, under the keys and time steps of a data configuration."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gr00t.data.dataset import ModalityConfig
from gr00t.data.embodiment_tags import EmbodimentTag
from gr00t.data.lerobot.described import describe_set, statistical_values
from gr00t.data.lerobot.frames.frame_cache import cache_name, stored_times
from gr00t.data.lerobot.frames.frame_source import open_cameras
from gr00t.data.lerobot.frames.image_columns import open_images
from gr00t.data.lerobot.frames.source_names import FrameSource
from gr00t.data.lerobot.meta.faults import DatasetError, Fault, raise_faults
from gr00t.data.lerobot.meta.features import is_image
from gr00t.data.lerobot.meta.layout import Layout, read_layout
from gr00t.data.lerobot.rows.contents import keys_of
from gr00t.data.lerobot.rows.opened import OpenedSet, open_set
from gr00t.data.lerobot.rows.row_frames import FrameRule
from gr00t.data.schema import DatasetMetadata, VideoMetadata
from gr00t.spelling import did_you_mean


class LeRobotDataset:
    """The time steps of all episodes, by number.

    Args:
        folder: of the data set.
        modalities: keys and time steps of video, state, action and language.
        cache: folder for decoded frames, see `frame_cache`.
        frames: where frames come from, see `frame_source`.
        rule: which frame belongs to a time stamp, see `row_frames`.
        on_video: told after each video that had to be decoded.

    Attributes:
        lengths: of the episodes, in time steps.

    Raises:
        DatasetError: the folder is not such a data set, or lacks a key.
    """

    def __init__(
        self,
        folder: Path,
        modalities: Mapping[str, ModalityConfig],
        cache: Path,
        *,
        frames: FrameSource = "auto",
        rule: FrameRule = "nearest",
        on_video: Callable[[], None] = lambda: None,
    ) -> None:
        self.layout, opened = _read(folder, modalities, cache, rule)
        contents = opened.contents
        self._modalities = modalities
        lengths = [episode.length for episode in self.layout.episodes]
        self.lengths: NDArray[np.int64] = np.asarray(lengths, dtype=np.int64)
        self._ends = np.repeat(np.cumsum(lengths), lengths)
        self._starts = self._ends - np.repeat(lengths, lengths)
        self._columns, self._numbers, self._texts = contents.columns, contents.numbers, contents.texts
        self._frames = open_cameras(opened.videos, cache, frames, on_video=on_video)
        self._frame_of_row = opened.frame_of_row
        for key in keys_of(modalities, "video"):
            feature = self.layout.modality.cameras[key]
            if is_image(self.layout.features, feature):
                images = open_images(self.layout, feature, contents.places, cache)
                self._frames[key], self._frame_of_row[key] = images

    def __len__(self) -> int:
        """Number of time steps."""
        return len(self._ends)

    def draw(self, generator: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Numbers (count,) of time steps to train on, each as likely as any other."""
        return generator.integers(0, len(self), count)

    def batch(self, steps: NDArray[np.int64] | Sequence[int]) -> dict[str, Any]:
        """Return the samples at `steps` (B,), numbers below `len(self)`.

        Returns:
            `video.*` (B, T, H, W, 3) uint8, `state.*` (B, S, A) and `action.*` (B, H, A) float32, and
            instructions as an array (B, T) of strings. A row sees the frame of its time stamp.
            Before its first step an episode repeats that, after its last one too, but for states and actions
            that are changes: those are zero.
        """
        at = np.asarray(steps, dtype=np.int64)
        starts, ends = self._starts[at], self._ends[at]
        samples: dict[str, Any] = {}
        for kind, config in self._modalities.items():
            wanted = at[:, None] + np.asarray(config.delta_indices)
            inside = np.clip(wanted, starts[:, None], ends[:, None] - 1)
            for key in config.modality_keys:
                if kind == "video":
                    samples[key] = self._frames[key].at(self._frame_of_row[key][inside])
                elif kind == "language":
                    samples[key] = self._texts[key].texts[self._texts[key].numbers[inside]]
                else:
                    samples[key] = self._numbers[key][inside]
                    if not self._columns[key].absolute:
                        samples[key][wanted != inside] = 0.0
        return samples

    def values(self, key: str) -> NDArray[np.float32]:
        """All time steps of a state or action, (N, A), the episodes one after the other.

        Raises:
            DatasetError: the data configuration has no such key.
        """
        if key not in self._numbers:
            raise DatasetError(f"no {key!r} in the data configuration: {did_you_mean(key, self._numbers)}")
        return self._numbers[key]

    def digest(self) -> str:
        """SHA-256 of the samples: of episodes, numbers and instructions, and of which frames rows see.

        Of the frames themselves it holds the sizes of their files alone: to read them all takes long.
        """
        found = hashlib.sha256(self.lengths.tobytes())
        for key, numbers in sorted(self._numbers.items()):
            found.update(key.encode() + numbers.tobytes())
        for key, texts in sorted(self._texts.items()):
            found.update(json.dumps([key, texts.texts.tolist()]).encode() + texts.numbers.tobytes())
        for key, frames in sorted(self._frames.items()):
            sizes = [path.stat().st_size for path in frames.videos]
            found.update(json.dumps([key, sizes]).encode() + self._frame_of_row[key].tobytes())
        return found.hexdigest()

    def metadata(self, embodiment_tag: EmbodimentTag) -> DatasetMetadata:
        """Shapes and statistics, as a checkpoint carries them in experiment_cfg/metadata.json."""
        statistics = {key: statistical_values(values) for key, values in self._numbers.items()}
        cameras = {
            key: VideoMetadata(
                resolution=(frames.shape[1], frames.shape[0]),
                channels=frames.shape[2],
                fps=self.layout.fps,
            )
            for key, frames in self._frames.items()
        }
        return describe_set(self.layout.folder, self._columns, statistics, cameras, embodiment_tag)


def _read(
    folder: Path, modalities: Mapping[str, ModalityConfig], cache: Path, rule: FrameRule
) -> tuple[Layout, OpenedSet]:
    """Everything but the frames.

    Raises:
        DatasetError: something is wrong with the set; the message lists all of it.
    """

    def times_of(files: Sequence[Path]) -> Sequence[NDArray[np.float64]]:
        return stored_times(files, cache, cache_name(files))

    faults: list[Fault] = []
    layout = read_layout(folder, faults)
    opened = None if layout is None else open_set(layout, modalities, times_of, faults, rule)
    raise_faults(folder, faults)
    assert layout is not None, "what keeps a set from being read is a fault"
    assert opened is not None, "what keeps a set from being read is a fault"
    return layout, opened
