"""The files of a data set: where they are, and what its descriptions say, checked."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gr00t.spelling import did_you_mean

INFO = Path("meta/info.json")
EPISODES = Path("meta/episodes.jsonl")
TASKS = Path("meta/tasks.jsonl")
MODALITY = Path("meta/modality.json")

DATA_PATH = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
VIDEO_PATH = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"


class DatasetError(ValueError):
    """A folder that is not a data set of this layout, or that lacks something; the message names the file."""


@dataclass(frozen=True)
class Column:
    """Numbers `start` to `end` of a parquet column: one state or action key.

    `absolute` is False for a change (a delta), which is zero where an episode has ended.
    """

    original_key: str
    start: int
    end: int
    absolute: bool = True


@dataclass(frozen=True)
class EpisodeInfo:
    """One episode: its number, its frames, its instruction, and whatever else its line says."""

    index: int
    length: int
    task: str
    extra: dict[str, Any]


@dataclass(frozen=True)
class Layout:
    """What the descriptions say.

    Attributes:
        folder: of the data set.
        fps: frames per second.
        chunk_size: episodes per folder.
        data_path: pattern of the parquet files.
        video_path: pattern of the video files.
        features: of info.json.
        episodes: in order.
        columns: state and action keys (`state.x`) and where their numbers are.
        cameras: video keys (`video.image`) and the names of their folders.
        annotations: keys (`annotation.human.action.task_description`) and the columns that hold task numbers.
    """

    folder: Path
    fps: float
    chunk_size: int
    data_path: str
    video_path: str
    features: dict[str, Any]
    episodes: tuple[EpisodeInfo, ...]
    columns: dict[str, Column]
    cameras: dict[str, str]
    annotations: dict[str, str]

    @classmethod
    def read(cls, folder: Path) -> Layout:
        """Read the descriptions in `meta/`.

        Raises:
            DatasetError: one is missing, malformed or contradicts another.
        """
        if not folder.is_dir():
            raise DatasetError(f"{folder}: no such folder")
        info = _object(folder / INFO)
        version = str(_value(info, "codebase_version", folder / INFO))
        if not version.startswith("v2"):
            raise DatasetError(
                f"{folder / INFO}: codebase_version {version!r}; only LeRobot's v2 layout is read"
            )
        modality = _object(folder / MODALITY)
        episodes = tuple(_episode(line, folder / EPISODES) for line in _lines(folder / EPISODES))
        if [episode.index for episode in episodes] != list(range(len(episodes))):
            raise DatasetError(f"{folder / EPISODES}: expected episodes 0 to {len(episodes) - 1} in order")
        columns = {
            f"{kind}.{name}": _column(kind, name, entry, folder / MODALITY)
            for kind in ("state", "action")
            for name, entry in modality.get(kind, {}).items()
        }
        return cls(
            folder=folder,
            fps=float(_value(info, "fps", folder / INFO)),
            chunk_size=int(info.get("chunks_size", 1000)),
            data_path=str(info.get("data_path", DATA_PATH)),
            video_path=str(info.get("video_path") or VIDEO_PATH),
            features=dict(_value(info, "features", folder / INFO)),
            episodes=episodes,
            columns=columns,
            cameras={
                f"video.{name}": entry.get("original_key", f"observation.images.{name}")
                for name, entry in modality.get("video", {}).items()
            },
            annotations={
                f"annotation.{name}": entry.get("original_key", f"annotation.{name}")
                for name, entry in modality.get("annotation", {}).items()
            },
        )

    def data_file(self, episode: int) -> Path:
        """The parquet file of an episode."""
        return self.folder / self.data_path.format(
            episode_chunk=episode // self.chunk_size, episode_index=episode
        )

    def video_file(self, camera: str, episode: int) -> Path:
        """The video of an episode by a camera, `video.image` and the like."""
        return self.folder / self.video_path.format(
            episode_chunk=episode // self.chunk_size,
            episode_index=episode,
            video_key=lookup(self.cameras, camera, self.folder / MODALITY),
        )


def lookup(table: dict[str, Any], key: str, path: Path) -> Any:
    """Return `table[key]`.

    Raises:
        DatasetError: the key is not there; the message names the nearest one and the file.
    """
    if key not in table:
        raise DatasetError(f"{path}: no {key!r}; {did_you_mean(key, table)}")
    return table[key]


def _column(kind: str, name: str, entry: dict[str, Any], path: Path) -> Column:
    where = {"state": "observation.state", "action": "action"}[kind]
    try:
        column = Column(
            original_key=entry.get("original_key", where),
            start=int(entry["start"]),
            end=int(entry["end"]),
            absolute=bool(entry.get("absolute", True)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{path}: {kind}.{name}: needs numbers start and end, got {entry}") from error
    if not 0 <= column.start < column.end:
        raise DatasetError(f"{path}: {kind}.{name}: start {column.start} is not below end {column.end}")
    return column


def _episode(line: dict[str, Any], path: Path) -> EpisodeInfo:
    tasks = _value(line, "tasks", path)
    if not isinstance(tasks, list) or len(tasks) != 1:
        raise DatasetError(f"{path}: episode {line.get('episode_index')}: expected one task, got {tasks}")
    known = ("episode_index", "length", "tasks")
    return EpisodeInfo(
        index=int(_value(line, "episode_index", path)),
        length=int(_value(line, "length", path)),
        task=str(tasks[0]),
        extra={key: value for key, value in line.items() if key not in known},
    )


def _object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DatasetError(f"{path}: not found; a data set in LeRobot's v2 layout has it")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DatasetError(f"{path}: not a JSON file: {error}") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{path}: expected an object, got {type(content).__name__}")
    return content


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise DatasetError(f"{path}: not found; a data set in LeRobot's v2 layout has it")
    lines = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            lines.append(json.loads(text))
        except ValueError as error:
            raise DatasetError(f"{path}, line {number}: not JSON: {error}") from error
    return lines


def _value(content: dict[str, Any], key: str, path: Path) -> Any:
    if key not in content:
        raise DatasetError(f"{path}: no {key!r}")
    return content[key]
