"""A data set as batches of samples, under the keys and time steps of a data configuration."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import ValidationError

from gr00t.data.dataset import ModalityConfig
from gr00t.data.embodiment_tags import EmbodimentTag
from gr00t.data.lerobot.camera_frames import CameraFrames
from gr00t.data.lerobot.frame_source import FrameSource, open_cameras
from gr00t.data.lerobot.layout import MODALITY, TASKS, Column, DatasetError, Layout, json_lines, lookup
from gr00t.data.lerobot.row_frames import TIMESTAMP, check_stamps, nearest_frames
from gr00t.data.schema import (
    DatasetMetadata,
    DatasetModalities,
    DatasetStatisticalValues,
    DatasetStatistics,
    StateActionMetadata,
    VideoMetadata,
    problems_of,
)
from gr00t.spelling import did_you_mean

logger = logging.getLogger(__name__)


class LeRobotDataset:
    """The time steps of all episodes, by number.

    Args:
        folder: of the data set.
        modalities: keys and time steps of video, state, action and language.
        cache: folder for decoded frames, see `frame_cache`.
        frames: where frames come from, see `frame_source`.
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
        on_video: Callable[[], None] = lambda: None,
    ) -> None:
        self.layout = Layout.read(folder)
        self._modalities = modalities
        lengths = [episode.length for episode in self.layout.episodes]
        if not lengths:
            raise DatasetError(f"{folder}: the data set has no episode")
        self.lengths: NDArray[np.int64] = np.asarray(lengths, dtype=np.int64)
        self._ends = np.repeat(np.cumsum(lengths), lengths)
        self._starts = self._ends - np.repeat(lengths, lengths)
        keys = [key for kind in ("state", "action") for key in self._keys(kind)]
        self._columns: dict[str, Column] = {
            key: lookup(self.layout.columns, key, folder / MODALITY) for key in keys
        }
        tables = self._tables()
        self._numbers = {key: self._numbers_of(key, column, tables) for key, column in self._columns.items()}
        self._texts = {key: self._texts_of(key, tables) for key in self._keys("language")}
        videos = {
            key: [self.layout.video_file(key, episode.index) for episode in self.layout.episodes]
            for key in self._keys("video")
        }
        self._frames = open_cameras(videos, cache, frames, on_video=on_video)
        self._frame_of_row = {
            key: self._rows_of(key, files, self._frames[key], tables[TIMESTAMP])
            for key, files in videos.items()
        }

    def __len__(self) -> int:
        """Number of time steps."""
        return len(self._ends)

    def draw(self, generator: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Numbers (count,) of time steps to train on, each as likely as any other."""
        return generator.integers(0, len(self), count)

    def batch(self, steps: NDArray[np.int64] | Sequence[int]) -> dict[str, Any]:
        """Return the samples at `steps` (B,), numbers below `len(self)`.

        Returns:
            `video.*` (B, T, H, W, 3) uint8, `state.*` (B, S, A) and `action.*` (B, H, A) float32, and the
            instruction as an array (B, 1) of strings. A row sees the frame of its time stamp (`row_frames`).
            Before its first step an episode repeats that, after its last one too, but for actions that are
            changes: those are zero.
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
                    samples[key] = self._texts[key][at][:, None]
                else:
                    samples[key] = self._numbers[key][inside]
                    if kind == "action" and not self._columns[key].absolute:
                        samples[key][wanted >= ends[:, None]] = 0.0
        return samples

    def values(self, key: str) -> NDArray[np.float32]:
        """All time steps of a state or action, (N, A), the episodes one after the other.

        Raises:
            DatasetError: the data configuration has no such key.
        """
        if key not in self._numbers:
            raise DatasetError(f"no {key!r} in the data configuration: {did_you_mean(key, self._numbers)}")
        return self._numbers[key]

    def metadata(self, embodiment_tag: EmbodimentTag) -> DatasetMetadata:
        """Shapes and statistics, as a checkpoint carries them in experiment_cfg/metadata.json."""
        tables: dict[str, dict[str, Any]] = {"state": {}, "action": {}}
        statistics: dict[str, dict[str, Any]] = {"state": {}, "action": {}}
        for key, column in self._columns.items():
            kind, _, name = key.partition(".")
            tables[kind][name] = StateActionMetadata(
                absolute=column.absolute, shape=(column.end - column.start,), continuous=True
            )
            statistics[kind][name] = statistical_values(self._numbers[key])
        cameras = {
            key.removeprefix("video."): VideoMetadata(
                resolution=(frames.shape[1], frames.shape[0]),
                channels=frames.shape[2],
                fps=self.layout.fps,
            )
            for key, frames in self._frames.items()
        }
        try:
            return DatasetMetadata(
                statistics=DatasetStatistics(**statistics),
                modalities=DatasetModalities(video=cameras, **tables),
                embodiment_tag=embodiment_tag,
            )
        except ValidationError as error:
            problems = "; ".join(problems_of(error, "the data set"))
            raise DatasetError(f"{self.layout.folder}: {problems}") from error

    def _keys(self, kind: str) -> list[str]:
        return self._modalities[kind].modality_keys if kind in self._modalities else []

    def _tables(self) -> dict[str, NDArray[Any]]:
        """Every column that is needed, the episodes one after the other."""
        needed = {column.original_key for column in self._columns.values()}
        needed |= {
            lookup(self.layout.annotations, key, self.layout.folder / MODALITY)
            for key in self._keys("language")
        }
        if self._keys("video"):
            needed.add(TIMESTAMP)
        parts: dict[str, list[NDArray[Any]]] = {name: [] for name in needed}
        for episode in self.layout.episodes:
            path = self.layout.data_file(episode.index)
            if not path.is_file():
                raise DatasetError(f"{path}: not found")
            try:
                table = pq.read_table(path)
            except (pa.ArrowException, OSError) as error:
                raise DatasetError(f"{path}: cannot be read as parquet: {error}") from error
            for name in needed:
                if name not in table.column_names:
                    raise DatasetError(f"{path}: no column {name!r}; it has {', '.join(table.column_names)}")
                if len(table) != episode.length:
                    raise DatasetError(f"{path}: {len(table)} rows, its episode has {episode.length}")
                values = table[name].to_pylist()
                parts[name].append(
                    check_stamps(values, path) if name == TIMESTAMP else _numbers_in(values, name, path)
                )
        for name, arrays in parts.items():
            shapes = {array.shape[1:] for array in arrays}
            if len(shapes) > 1:
                raise DatasetError(f"{self.layout.folder}: {name}: episodes differ in shape: {shapes}")
        return {name: np.concatenate(values) for name, values in parts.items()}

    def _rows_of(
        self, key: str, videos: list[Path], seen: CameraFrames, stamps: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        """The frame of every row, counted over all videos of a camera."""
        found = []
        behind = first = 0
        ends = np.cumsum(self.lengths)
        for episode, of_rows, times, video in zip(
            self.layout.episodes, np.split(stamps, ends[:-1]), seen.times, videos, strict=True
        ):
            table = self.layout.data_file(episode.index)
            found.append(first + nearest_frames(of_rows, times, 1 / self.layout.fps, table, video))
            behind += bool(of_rows[-1] > times[-1] + 0.5 / self.layout.fps)
            first += len(times)
        if behind:
            logger.warning(
                "%s: %s: %d of %d episodes have a last row behind the last frame of its video, which it sees",
                self.layout.folder,
                key,
                behind,
                len(videos),
            )
        return np.concatenate(found)

    def _numbers_of(self, key: str, column: Column, tables: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        values = tables[column.original_key].reshape(len(self), -1)
        if column.end > values.shape[1]:
            raise DatasetError(
                f"{self.layout.folder / MODALITY}: {key} ends at {column.end}, "
                f"{column.original_key} has {values.shape[1]} numbers"
            )
        with np.errstate(over="ignore"):  # what float32 cannot hold is refused below
            numbers = values[:, column.start : column.end].astype(np.float32)
        broken = np.flatnonzero(~np.isfinite(numbers).all(axis=1))
        if len(broken):
            step = int(broken[0])
            number = int(np.searchsorted(np.cumsum(self.lengths), step, side="right"))
            path = self.layout.data_file(self.layout.episodes[number].index)
            raise DatasetError(f"{path}: {key}: inf or nan in row {step - int(self._starts[step])}")
        return numbers

    def _texts_of(self, key: str, tables: dict[str, NDArray[Any]]) -> NDArray[np.str_]:
        """The instruction of every time step, by its number in tasks.jsonl."""
        path = self.layout.folder / TASKS
        texts: dict[int, str] = {}
        for line in json_lines(path):
            number, text = line.get("task_index"), line.get("task")
            if type(number) is not int or not isinstance(text, str):
                raise DatasetError(f"{path}: expected a number task_index and a text task, got {line}")
            if texts.setdefault(number, text) != text:
                raise DatasetError(f"{path}: task {number} is both {texts[number]!r} and {text!r}")
        numbers = tables[self.layout.annotations[key]]
        if numbers.size != len(self):
            raise DatasetError(f"{self.layout.folder}: {key}: expected one task number a row")
        unknown = set(numbers.reshape(-1).tolist()) - set(texts)
        if unknown:
            raise DatasetError(f"{path}: no task {sorted(unknown)[0]}, which {key} refers to")
        return np.asarray([texts[number] for number in numbers.reshape(-1).tolist()])


def _numbers_in(values: list[Any], name: str, path: Path) -> NDArray[Any]:
    """A column as an array of numbers or truth values; the first dimension is the rows."""
    try:
        array = np.asarray(values)
    except ValueError:
        raise DatasetError(f"{path}: {name}: rows differ in length") from None
    if array.dtype.kind not in "fiub":
        empty = next((row for row, value in enumerate(values) if value is None), None)
        got = f"nothing in row {empty}" if empty is not None else f"{values[0]!r} in row 0"
        raise DatasetError(f"{path}: {name}: expected numbers, got {got}")
    return array


def statistical_values(values: NDArray[np.float32]) -> DatasetStatisticalValues:
    """Statistics of (steps, A) by column."""
    exact = values.astype(np.float64)
    return DatasetStatisticalValues(
        max=exact.max(axis=0),
        min=exact.min(axis=0),
        mean=exact.mean(axis=0),
        std=exact.std(axis=0),
        q01=np.quantile(exact, 0.01, axis=0),
        q99=np.quantile(exact, 0.99, axis=0),
    )
