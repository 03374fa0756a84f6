"""The episodes of a data set in LeRobot's v3 layout, in which many share a file.

`meta/episodes` says which; of a video each episode has the part between two times.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from gr00t.data.lerobot.meta.episodes import Clip, EpisodeInfo, count_of, pattern_of, tasks_of
from gr00t.data.lerobot.meta.faults import Fault
from gr00t.data.lerobot.meta.parquet_files import open_parquet, read_columns
from gr00t.spelling import did_you_mean

EPISODES = Path("meta/episodes")
_DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
_VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
_NEEDED = ("episode_index", "length", "data/chunk_index", "data/file_index")
_TIMES = ("from_timestamp", "to_timestamp")
_OF_CAMERA = ("chunk_index", "file_index", *_TIMES)


def read_episodes_v3(
    folder: Path, info: Mapping[str, Any], cameras: Collection[str], faults: list[Fault]
) -> list[EpisodeInfo]:
    """The episodes of meta/episodes/*/*.parquet in their order; arguments as of `read_episodes_v2`."""
    fields = {"chunk_index": 0, "file_index": 0}
    data_path = pattern_of(folder, info, "data_path", _DATA_PATH, fields, faults)
    video_path = pattern_of(folder, info, "video_path", _VIDEO_PATH, {**fields, "video_key": ""}, faults)
    episodes: dict[int, EpisodeInfo] = {}
    files = sorted((folder / EPISODES).glob("*/*.parquet"))
    if not files:
        faults.append(Fault(folder / EPISODES, "has no parquet file", allowed="the v3 layout needs one"))
    for path in files:
        for row, line in enumerate(_rows(path, folder, cameras, faults)):
            place, found = f"row {row}", len(faults)
            index, length, chunk, number = (count_of(line, key, path, place, faults) for key in _NEEDED)
            clips = {
                key: _clip(folder, line, key, video_path, path, place, faults)
                for key in cameras
                if f"videos/{key}/file_index" in line
            }
            if index in episodes:
                faults.append(Fault(path, f"episode {index} is listed twice", place))
            if len(faults) > found or index is None or length is None:
                continue
            data_file = folder / data_path.format(chunk_index=chunk, file_index=number)
            known = {key: clip for key, clip in clips.items() if clip is not None}
            episodes[index] = EpisodeInfo(index, length, tasks_of(line.get("tasks")), data_file, known)
    return list(episodes.values())


def _rows(path: Path, folder: Path, cameras: Collection[str], faults: list[Fault]) -> list[dict[str, Any]]:
    """What a file of meta/episodes says of each episode, its statistics aside.

    Where nothing is said of a camera, it has no frames, which matters to those who want them.
    """
    file = open_parquet(path, folder, faults)
    if file is None:
        return []
    there = file.schema_arrow.names
    missing = [name for name in _NEEDED if name not in there]
    for name in missing:
        faults.append(Fault(path, f"no column {name!r}", allowed=did_you_mean(name, there)))
    of_cameras = [[f"videos/{key}/{name}" for name in _OF_CAMERA] for key in cameras]
    of_cameras = [names for names in of_cameras if set(names) <= set(there)]
    wanted = [*_NEEDED, *(name for names in of_cameras for name in names), "tasks"]
    columns = None if missing else read_columns(file, path, wanted, faults)
    if columns is None:
        return []
    values = {name: column.to_pylist() for name, column in columns.items()}
    return [dict(zip(values, line, strict=True)) for line in zip(*values.values(), strict=True)]


def _clip(
    folder: Path,
    line: Mapping[str, Any],
    key: str,
    video_path: str,
    path: Path,
    place: str,
    faults: list[Fault],
) -> Clip | None:
    chunk, number = (
        count_of(line, f"videos/{key}/{name}", path, place, faults) for name in ("chunk_index", "file_index")
    )
    start, end = (line[f"videos/{key}/{name}"] for name in _TIMES)
    if not all(isinstance(time, int | float) and math.isfinite(time) for time in (start, end)):
        faults.append(Fault(path, f"{key}: expected seconds, from and to, got {start!r}, {end!r}", place))
        return None
    if not 0 <= start < end:
        faults.append(Fault(path, f"{key}: from {start:g} s is not before {end:g} s", place))
        return None
    if chunk is None or number is None:
        return None
    found = video_path.format(chunk_index=chunk, file_index=number, video_key=key)
    return Clip(folder / found, float(start), float(end))
