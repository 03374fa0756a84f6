"""Everything that is to be said about a data set, as plain data."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gr00t.cli.inspection.cameras import describe_cameras
from gr00t.cli.inspection.configs import examine_config, faults_met, fitting_configs, own_config
from gr00t.cli.inspection.reading import Readable, read
from gr00t.cli.inspection.statistics import Dimension, dimensions_of
from gr00t.data.lerobot.meta.episodes import INFO
from gr00t.data.lerobot.meta.faults import Fault
from gr00t.data.lerobot.meta.layout import Layout
from gr00t.data.lerobot.meta.meta_files import read_object
from gr00t.data.lerobot.rows.contents import Texts
from gr00t.experiment.data_config import load_data_config

# LeRobot's own columns, which no key needs to read.
_OF_EVERY_ROW = {"timestamp", "frame_index", "episode_index", "index", "task_index", "next.done"}


@dataclass
class Findings:
    """What was found.

    Attributes:
        told: all of it but the faults, as JSON can hold it.
        faults: everything that is wrong.
        layout: the descriptions, where they can be read.
        readable: what can be read.
        dimensions: per state and action key, statistics of its numbers.
        remarks: what the reader warned of, and what is odd but not wrong.
    """

    told: dict[str, Any]
    faults: list[Fault]
    layout: Layout | None = None
    readable: Readable | None = None
    dimensions: dict[str, list[Dimension]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def as_json(self, files: list[Path]) -> dict[str, Any]:
        """All of it; `files` were drawn."""
        return {
            **self.told,
            "statistics": {key: [asdict(each) for each in found] for key, found in self.dimensions.items()},
            "remarks": self.remarks,
            "faults": [str(fault) for fault in self.faults],
            "files": [str(path) for path in files],
            "usable": not self.faults,
        }


def find(folder: Path, data_config: str | None) -> Findings:
    """Look at everything.

    Raises:
        ValueError: there is no such data configuration.
    """
    if data_config is not None:
        load_data_config(data_config)  # before minutes are spent on reading
    unread: list[str] = []
    with _Warnings() as warnings:
        faults, layout, readable = read(folder)
        found = Findings({"folder": str(folder), "data_config": data_config}, faults, layout, readable)
        if layout is None:
            return found
        found.told |= _descriptions(layout)
        cameras: dict[str, Any] = {}
        if readable is not None:
            cameras = describe_cameras(readable, faults)
            found.told |= _contents(readable, cameras)
            for key, values in readable.numbers.items():
                found.dimensions[key] = dimensions_of(layout, key, values)
        if data_config is not None:
            needed = faults_met(data_config, layout, faults)
            unread = [f"not read with {data_config}: {fault}" for fault in faults if fault not in needed]
            wrong, found.told["reads"] = examine_config(data_config, layout, readable, cameras)
            found.faults = [*dict.fromkeys([*needed, *wrong])]
        fits, nearest = fitting_configs(layout, readable, cameras)
        found.told["configs"] = {"fit": fits, "nearest": nearest}
        if not fits and data_config is None:
            found.told["configs"]["own"] = own_config(layout)
    found.remarks = [*dict.fromkeys(warnings.said), *unread]
    return found


def _descriptions(layout: Layout) -> dict[str, Any]:
    """What the files of meta/ say."""
    info = read_object(layout.folder / INFO, layout.folder, []) or {}
    lengths = [episode.length for episode in layout.episodes]
    read = {column.original_key for column in layout.modality.columns.values()}
    read |= {*layout.modality.cameras.values(), *layout.modality.annotations.values()}
    keys: dict[str, dict[str, Any]] = {"state": {}, "action": {}}
    for key, column in layout.modality.columns.items():
        keys[key.partition(".")[0]][key] = {
            "column": column.original_key,
            "start": column.start,
            "end": column.end,
            "width": column.end - column.start,
            "rotation_type": column.rotation_type.value if column.rotation_type else None,
            "absolute": column.absolute,
            "dtype": column.dtype,
        }
    return {
        "version": info.get("codebase_version", f"v{layout.version}"),
        "robot": info.get("robot_type"),
        "episodes": len(lengths),
        "rows": sum(lengths),
        "fps": layout.fps,
        "hours": sum(lengths) / layout.fps / 3600,
        "lengths": {
            "shortest": min(lengths, default=0),
            "median": float(np.median(lengths)) if lengths else 0,
            "longest": max(lengths, default=0),
        },
        "modality_file": layout.modality.written,
        **keys,
        "unread": sorted(set(layout.features) - read - _OF_EVERY_ROW),
    }


def _contents(readable: Readable, cameras: dict[str, Any]) -> dict[str, Any]:
    """What the rows and the videos say."""
    frames = sum(camera["frames"] for camera in cameras.values())
    decoded = sum(camera["frames"] * camera["height"] * camera["width"] * 3 for camera in cameras.values())
    lengths = [episode.length for episode in readable.layout.episodes]
    return {
        "readable_episodes": len(lengths),
        "cameras": cameras,
        "instructions": {key: _frequencies(texts, lengths) for key, texts in readable.texts.items()},
        "frame_cache": {"frames": frames, "bytes": decoded},
    }


def _frequencies(texts: Texts, lengths: list[int]) -> list[dict[str, Any]]:
    """Each instruction with how many rows and episodes have it, the most frequent first."""
    rows = np.bincount(texts.numbers, minlength=len(texts.texts))
    episodes = np.zeros(len(texts.texts), dtype=np.int64)
    for part in np.split(texts.numbers, np.cumsum(lengths)[:-1]):
        episodes[np.unique(part)] += 1
    order = np.argsort(-rows, kind="stable")
    return [
        {"text": str(texts.texts[at]), "rows": int(rows[at]), "episodes": int(episodes[at])} for at in order
    ]


class _Warnings(logging.Handler):
    """Keeps what the library warns of, so that it stands with everything else."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        self.said.append(record.getMessage())

    def __enter__(self) -> _Warnings:
        logging.getLogger("gr00t").addHandler(self)
        return self

    def __exit__(self, *exception: object) -> None:
        logging.getLogger("gr00t").removeHandler(self)
