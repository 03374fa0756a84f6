"""The episodes of a data set, and where the rows and the frames of each are, in LeRobot's v2 layout.

Every episode has a parquet file and a video per camera, at paths that follow from its number.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gr00t.data.lerobot.meta.faults import Fault
from gr00t.data.lerobot.meta.meta_files import read_lines, whole_number

INFO = Path("meta/info.json")
EPISODES = Path("meta/episodes.jsonl")
DATA_PATH = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
VIDEO_PATH = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"


@dataclass(frozen=True)
class Clip:
    """What a camera saw of an episode.

    Attributes:
        path: of the video.
        start: when the episode begins in it, in seconds since its first frame.
        end: when the episode is over; infinity: with the video.
    """

    path: Path
    start: float = 0.0
    end: float = math.inf


@dataclass(frozen=True)
class EpisodeInfo:
    """One episode.

    Attributes:
        index: its number.
        length: its rows.
        tasks: its instructions, as far as they are told; which row has which, the rows say.
        data_file: of its rows.
        clips: its frames by camera feature (`observation.images.image`).
    """

    index: int
    length: int
    tasks: tuple[str, ...]
    data_file: Path
    clips: dict[str, Clip]


def read_episodes_v2(
    folder: Path, info: Mapping[str, Any], chunk_size: int, cameras: Collection[str], faults: list[Fault]
) -> list[EpisodeInfo]:
    """The episodes of meta/episodes.jsonl in its order, whatever their numbers; their files by pattern.

    Args:
        folder: of the data set.
        info: the content of info.json.
        chunk_size: episodes per folder.
        cameras: features that are videos.
        faults: gets what is wrong.
    """
    path = folder / EPISODES
    fields = {"episode_chunk": 0, "episode_index": 0}
    data_path = pattern_of(folder, info, "data_path", DATA_PATH, fields, faults)
    video_path = pattern_of(folder, info, "video_path", VIDEO_PATH, {**fields, "video_key": ""}, faults)
    episodes: dict[int, EpisodeInfo] = {}
    lines: dict[int, int] = {}
    for number, line in read_lines(path, folder, faults):
        place = f"line {number}"
        index, length = (count_of(line, key, path, place, faults) for key in ("episode_index", "length"))
        if index is None or length is None:
            continue
        if index in episodes:
            faults.append(
                Fault(path, f"episode {index} is listed twice, first in line {lines[index]}", place)
            )
            continue
        lines[index] = number
        at = {"episode_chunk": index // chunk_size, "episode_index": index}
        clips = {key: Clip(folder / video_path.format(**at, video_key=key)) for key in cameras}
        data_file = folder / data_path.format(**at)
        episodes[index] = EpisodeInfo(index, length, tasks_of(line.get("tasks")), data_file, clips)
    found = list(episodes.values())
    files = {
        "data_path": [episode.data_file for episode in found],
        "video_path": [clip.path for episode in found for clip in episode.clips.values()],
    }
    for key, paths in files.items():
        if len(set(paths)) < len(paths):
            what = f"got {info.get(key)!r}, which is one file for several"
            allowed = "a path with the field episode_index" + (
                ", and video_key" if key == "video_path" else ""
            )
            faults.append(Fault(folder / INFO, what, key, allowed))
    return found


def count_of(line: Mapping[str, Any], key: str, path: Path, place: str, faults: list[Fault]) -> int | None:
    """A whole number of at least 0; None, and a fault, where it is none."""
    value = whole_number(line.get(key))
    if value is None or value < 0:
        got = repr(line[key]) if key in line else "nothing"
        faults.append(Fault(path, f"{key}: expected a whole number of at least 0, got {got}", place))
        return None
    return value


def tasks_of(value: Any) -> tuple[str, ...]:
    """The texts of an episode's `tasks`, whatever else may stand there."""
    if isinstance(value, str):
        return (value,)
    return tuple(map(str, value)) if isinstance(value, list) else ()


def pattern_of(
    folder: Path,
    info: Mapping[str, Any],
    key: str,
    usual: str,
    fields: Mapping[str, Any],
    faults: list[Fault],
) -> str:
    """A path pattern of info.json; the usual one, and a fault, where it is none."""
    pattern = info.get(key)
    if pattern is None:
        return usual
    allowed = f"a path with the fields {', '.join(fields)}, such as {usual}"
    if not isinstance(pattern, str):
        faults.append(Fault(folder / INFO, f"got {pattern!r}", key, allowed))
        return usual
    try:
        pattern.format(**fields)
    except (KeyError, IndexError, ValueError, AttributeError, TypeError) as error:
        faults.append(Fault(folder / INFO, f"got {pattern!r}: {error!r}", key, allowed))
        return usual
    return pattern
