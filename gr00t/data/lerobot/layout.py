"""The files of a data set: where they are, and what its descriptions say, checked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gr00t.spelling import did_you_mean
from gr00t.strict_json import parse_json

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
        path = folder / MODALITY
        kinds = {kind: _entries(modality, kind, path) for kind in ("state", "action", "video", "annotation")}
        lines = json_lines(folder / EPISODES)
        episodes = tuple(_episode(line, folder / EPISODES) for line in lines)
        if [episode.index for episode in episodes] != list(range(len(episodes))):
            raise DatasetError(f"{folder / EPISODES}: expected episodes 0 to {len(episodes) - 1} in order")
        return cls(
            folder=folder,
            fps=_fps(info, folder / INFO),
            chunk_size=_whole(info.get("chunks_size", 1000), "chunks_size", 1, folder / INFO),
            data_path=str(info.get("data_path", DATA_PATH)),
            video_path=str(info.get("video_path") or VIDEO_PATH),
            features=dict(_value(info, "features", folder / INFO)),
            episodes=episodes,
            columns={
                f"{kind}.{name}": _column(kind, name, entry, path)
                for kind in ("state", "action")
                for name, entry in kinds[kind].items()
            },
            cameras={
                f"video.{name}": _original_key("video", name, entry, f"observation.images.{name}", path)
                for name, entry in kinds["video"].items()
            },
            annotations={
                f"annotation.{name}": _original_key("annotation", name, entry, f"annotation.{name}", path)
                for name, entry in kinds["annotation"].items()
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


def json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a .jsonl file, one a line; empty lines hold none.

    Raises:
        DatasetError: there is no such file, or a line holds something else; the message names it.
    """
    lines = []
    # Only a line feed ends a line: within a text JSON allows the other characters that Python splits at.
    for number, text in enumerate(_text(path).split("\n"), start=1):
        if not text.strip():
            continue
        try:
            line = parse_json(text)
        except ValueError as error:
            raise DatasetError(f"{path}, line {number}: not JSON: {error}") from error
        if not isinstance(line, dict):
            raise DatasetError(f"{path}, line {number}: expected an object, got {type(line).__name__}")
        lines.append(line)
    return lines


def _entries(modality: dict[str, Any], kind: str, path: Path) -> dict[str, dict[str, Any]]:
    entries = modality.get(kind, {})
    if not isinstance(entries, dict):
        raise DatasetError(f"{path}: {kind}: expected an object, got {entries!r}")
    for name, entry in entries.items():
        if not isinstance(entry, dict):
            raise DatasetError(f"{path}: {kind}.{name}: expected an object, got {entry!r}")
    return entries


def _column(kind: str, name: str, entry: dict[str, Any], path: Path) -> Column:
    where = {"state": "observation.state", "action": "action"}[kind]
    start, end, absolute = entry.get("start"), entry.get("end"), entry.get("absolute", True)
    # Python takes "2", 2.9 and True for whole numbers, and the text "false" for true.
    if type(start) is not int or type(end) is not int:
        raise DatasetError(f"{path}: {kind}.{name}: needs numbers start and end, got {entry}")
    if type(absolute) is not bool:
        raise DatasetError(f"{path}: {kind}.{name}: absolute must be true or false, got {absolute!r}")
    if not 0 <= start < end:
        raise DatasetError(f"{path}: {kind}.{name}: start {start} is not below end {end}")
    return Column(_original_key(kind, name, entry, where, path), start, end, absolute)


def _original_key(kind: str, name: str, entry: dict[str, Any], otherwise: str, path: Path) -> str:
    key = entry.get("original_key")
    if key is None:
        return otherwise
    if not isinstance(key, str) or not key:
        raise DatasetError(f"{path}: {kind}.{name}: original_key must be a name, got {key!r}")
    return key


def _episode(line: dict[str, Any], path: Path) -> EpisodeInfo:
    tasks = _value(line, "tasks", path)
    if not isinstance(tasks, list) or len(tasks) != 1:
        raise DatasetError(f"{path}: episode {line.get('episode_index')}: expected one task, got {tasks}")
    known = ("episode_index", "length", "tasks")
    index = _whole(_value(line, "episode_index", path), "episode_index", 0, path)
    return EpisodeInfo(
        index=index,
        length=_whole(_value(line, "length", path), f"episode {index}: length", 1, path),
        task=str(tasks[0]),
        extra={key: value for key, value in line.items() if key not in known},
    )


def _whole(value: Any, name: str, at_least: int, path: Path) -> int:
    if type(value) is not int or value < at_least:
        raise DatasetError(f"{path}: {name} must be a whole number of at least {at_least}, got {value!r}")
    return value


def _fps(info: dict[str, Any], path: Path) -> float:
    fps = _value(info, "fps", path)
    if type(fps) not in (int, float) or not 0 < fps < math.inf:
        raise DatasetError(f"{path}: fps must be a positive number, got {fps!r}")
    return float(fps)


def _object(path: Path) -> dict[str, Any]:
    try:
        content = parse_json(_text(path))
    except DatasetError:
        raise
    except ValueError as error:
        raise DatasetError(f"{path}: not a JSON file: {error}") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{path}: expected an object, got {type(content).__name__}")
    return content


def _text(path: Path) -> str:
    if not path.is_file():
        raise DatasetError(f"{path}: not found; a data set in LeRobot's v2 layout has it")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: not UTF-8 text: {error}") from error


def _value(content: dict[str, Any], key: str, path: Path) -> Any:
    if key not in content:
        raise DatasetError(f"{path}: no {key!r}")
    return content[key]
