"""Writing demonstrations, one episode at a time; a killed run goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gr00t.data.lerobot.frames.video_files import write_video
from gr00t.data.lerobot.meta.episodes import DATA_PATH, EPISODES, INFO, VIDEO_PATH
from gr00t.data.lerobot.meta.faults import DatasetError
from gr00t.data.lerobot.meta.layout import Layout
from gr00t.data.lerobot.meta.modality import MODALITY
from gr00t.data.lerobot.meta.tasks import TASKS
from gr00t.files.atomic import replace_file

_CHUNK = 1000


@dataclass(frozen=True)
class Demonstration:
    """One episode of T steps.

    Attributes:
        task: the instruction.
        state: (T, S), what was sensed before each action.
        action: (T, A).
        frames: per camera (T, H, W, 3) uint8, seen before each action; by the names of `modality`.
        extra: kept in the episode's line of episodes.jsonl.
    """

    task: str
    state: NDArray[np.float32]
    action: NDArray[np.float32]
    frames: Mapping[str, NDArray[np.uint8]]
    extra: Mapping[str, Any]


class LeRobotWriter:
    """Appends demonstrations to a data set; the line in episodes.jsonl, written last, makes an episode count.

    Args:
        folder: new, or begun by a writer with the same `modality`.
        modality: the content of meta/modality.json, see `Layout`.
        fps: steps per second.

    Raises:
        DatasetError: the folder holds a data set of another form.
    """

    def __init__(self, folder: Path, modality: Mapping[str, Any], fps: int) -> None:
        self.folder = folder
        self._fps = fps
        self._cameras = {
            name: entry.get("original_key", f"observation.images.{name}")
            for name, entry in modality["video"].items()
        }
        self._tasks: dict[str, int] = {}
        self.episodes: list[dict[str, Any]] = []
        if (folder / INFO).is_file():
            self._resume(modality)
        else:
            (folder / "meta").mkdir(parents=True, exist_ok=True)
            replace_file(folder / MODALITY, json.dumps(modality, indent=2) + "\n")
            replace_file(folder / TASKS, "")
            (folder / EPISODES).write_text("")
            self._write_info({})

    def add(self, demonstration: Demonstration) -> None:
        """Append an episode.

        Raises:
            DatasetError: its arrays differ in length, or its cameras are not those of the data set.
        """
        index, length = len(self.episodes), len(demonstration.action)
        sizes = {len(demonstration.state), *(len(frames) for frames in demonstration.frames.values())}
        if sizes != {length} or not length or set(demonstration.frames) != set(self._cameras):
            raise DatasetError(
                f"episode {index}: {length} actions, {len(demonstration.state)} states and frames of "
                f"{ {name: len(frames) for name, frames in demonstration.frames.items()} }; expected as many "
                f"of each, from the cameras {', '.join(self._cameras)}"
            )
        if demonstration.task not in self._tasks:
            self._tasks[demonstration.task] = len(self._tasks)
            lines = [json.dumps({"task_index": n, "task": task}) + "\n" for task, n in self._tasks.items()]
            replace_file(self.folder / TASKS, "".join(lines))
        place = {"episode_chunk": index // _CHUNK, "episode_index": index}
        for name, video_key in self._cameras.items():
            path = self.folder / VIDEO_PATH.format(**place, video_key=video_key)
            write_video(path, demonstration.frames[name], self._fps)
        path = self.folder / DATA_PATH.format(**place)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(self._table(demonstration, index), path)
        line = {
            "episode_index": index,
            "tasks": [demonstration.task],
            "length": length,
            **demonstration.extra,
        }
        with (self.folder / EPISODES).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.episodes.append(line)
        self._write_info(self._features(demonstration))

    def _resume(self, modality: Mapping[str, Any]) -> None:
        lines = (self.folder / EPISODES).read_text(encoding="utf-8")
        whole = lines[: lines.rfind("\n") + 1]
        if whole != lines:  # killed while writing its last line: that episode does not count
            replace_file(self.folder / EPISODES, whole)
        if json.loads((self.folder / MODALITY).read_text()) != modality:
            raise DatasetError(f"{self.folder / MODALITY} is another one; write to a new folder")
        Layout.read(self.folder)
        self.episodes = [json.loads(line) for line in whole.splitlines()]
        for line in (self.folder / TASKS).read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            self._tasks[entry["task"]] = entry["task_index"]

    def _table(self, demonstration: Demonstration, index: int) -> pa.Table:
        length = len(demonstration.action)
        before = sum(line["length"] for line in self.episodes)
        return pa.table(
            {
                "observation.state": _lists(demonstration.state),
                "action": _lists(demonstration.action),
                "timestamp": pa.array(np.arange(length, dtype=np.float32) / self._fps),
                "frame_index": pa.array(np.arange(length)),
                "episode_index": pa.array(np.full(length, index)),
                "index": pa.array(np.arange(before, before + length)),
                "task_index": pa.array(np.full(length, self._tasks[demonstration.task])),
            }
        )

    def _features(self, demonstration: Demonstration) -> dict[str, Any]:
        features: dict[str, Any] = {
            "observation.state": {"dtype": "float32", "shape": [demonstration.state.shape[1]], "names": None},
            "action": {"dtype": "float32", "shape": [demonstration.action.shape[1]], "names": None},
        }
        for name, key in self._cameras.items():
            height, width = demonstration.frames[name].shape[1:3]
            features[key] = {
                "dtype": "video",
                "shape": [height, width, 3],
                "names": ["height", "width", "channel"],
                "info": {"video.fps": self._fps, "video.codec": "h264", "video.pix_fmt": "yuv420p"},
            }
        features["timestamp"] = {"dtype": "float32", "shape": [1], "names": None}
        for key in ("frame_index", "episode_index", "index", "task_index"):
            features[key] = {"dtype": "int64", "shape": [1], "names": None}
        return features

    def _write_info(self, features: dict[str, Any]) -> None:
        count = len(self.episodes)
        info = {
            "codebase_version": "v2.1",
            "robot_type": "panda",
            "total_episodes": count,
            "total_frames": sum(line["length"] for line in self.episodes),
            "total_tasks": len(self._tasks),
            "total_videos": count * len(self._cameras),
            "total_chunks": -(-count // _CHUNK),
            "chunks_size": _CHUNK,
            "fps": self._fps,
            "splits": {"train": f"0:{count}"},
            "data_path": DATA_PATH,
            "video_path": VIDEO_PATH,
            "features": features,
        }
        replace_file(self.folder / INFO, json.dumps(info, indent=2) + "\n")


def _lists(values: NDArray[np.float32]) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(values, dtype=np.float32).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
