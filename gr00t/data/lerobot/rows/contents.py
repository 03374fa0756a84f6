"""The numbers and texts of a data set, under the keys of a data configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gr00t.data.dataset import ModalityConfig
from gr00t.data.lerobot.meta.faults import DatasetError, Fault
from gr00t.data.lerobot.meta.features import is_image
from gr00t.data.lerobot.meta.layout import Layout
from gr00t.data.lerobot.meta.modality import MODALITY, Column, unknown_keys
from gr00t.data.lerobot.meta.tasks import TASKS, TASKS_V3, read_tasks
from gr00t.data.lerobot.rows.row_frames import TIMESTAMP, check_stamps
from gr00t.data.lerobot.rows.tables import Place, Tables, read_tables
from gr00t.data.statistics_rules import LARGEST


@dataclass(frozen=True)
class Texts:
    """An instruction a row: `texts[numbers]`."""

    texts: NDArray[np.str_]
    numbers: NDArray[np.int64]


@dataclass(frozen=True)
class Contents:
    """What the rows of all N time steps say.

    Attributes:
        columns: of the state and action keys that are wanted.
        numbers: under them, (N, A).
        texts: of the annotations that are wanted.
        stamps: per episode (T,), in seconds; empty where no video is wanted.
        places: per episode, where its rows are.
    """

    columns: dict[str, Column]
    numbers: dict[str, NDArray[np.float32]]
    texts: dict[str, Texts]
    stamps: list[NDArray[np.float64]]
    places: list[Place]


def keys_of(modalities: Mapping[str, ModalityConfig], kind: str) -> list[str]:
    """The keys of one kind, video, state, action or language, that a data configuration wants."""
    return list(modalities[kind].modality_keys) if kind in modalities else []


def read_contents(
    layout: Layout, modalities: Mapping[str, ModalityConfig], faults: list[Fault]
) -> Contents | None:
    """Read what a data configuration wants; None, and faults, where something is missing or wrong."""
    before = len(faults)
    modality = layout.modality
    wanted = [key for config in modalities.values() for key in config.modality_keys]
    faults.extend(unknown_keys(layout.folder, modality, layout.features, wanted))
    columns = {key: modality.columns[key] for key in wanted if key in modality.columns}
    annotations = {key: modality.annotations[key] for key in wanted if key in modality.annotations}
    cameras = [modality.cameras[key] for key in keys_of(modalities, "video") if key in modality.cameras]
    numbered = [column.original_key for column in columns.values()]
    if any(not is_image(layout.features, camera) for camera in cameras):
        numbered.append(TIMESTAMP)
    names = dict.fromkeys([*numbered, *annotations.values()])
    tables = read_tables(layout, names, set(annotations.values()) - set(numbered), faults)
    if tables is None:
        file = layout.folder / (TASKS if layout.version == 2 else TASKS_V3)
        if annotations and file.exists():
            read_tasks(layout.folder, layout.version, faults)  # all that is wrong is told at once
        return None
    numbers = _numbers(layout, columns, tables, faults)
    tasks = _tasks(layout, annotations, tables, faults)
    texts = {key: _texts(layout, key, name, tables, tasks, faults) for key, name in annotations.items()}
    stamps = _stamps(layout, tables, faults) if TIMESTAMP in tables.columns else []
    if len(faults) > before:
        return None
    return Contents(columns, numbers, texts, stamps, tables.places)


def whose(layout: Layout, position: int) -> str:
    """How messages name an episode where several share a file."""
    return f"episode {layout.episodes[position].index}" if layout.version == 3 else ""


def _stamps(layout: Layout, tables: Tables, faults: list[Fault]) -> list[NDArray[np.float64]]:
    found = []
    for position, stamps in enumerate(tables.columns[TIMESTAMP]):
        try:
            found.append(check_stamps(stamps, tables.places[position].path, whose(layout, position)))
        except DatasetError as error:
            faults.extend(error.faults)
    return found


def _numbers(
    layout: Layout, columns: Mapping[str, Column], tables: Tables, faults: list[Fault]
) -> dict[str, NDArray[np.float32]]:
    """The numbers of each key, (N, A); rows with numbers that statistics cannot be made of are faults."""
    ends = np.cumsum([len(place.rows) for place in tables.places])
    names = {column.original_key for column in columns.values()}
    joined = {name: np.concatenate(tables.columns[name]).reshape(int(ends[-1]), -1) for name in names}
    numbers = {}
    for key, column in columns.items():
        values = joined[column.original_key]
        if column.end > values.shape[1]:
            what = f"{key} ends at {column.end}, {column.original_key} has {values.shape[1]} numbers"
            faults.append(Fault(layout.folder / MODALITY, what))
            continue
        with np.errstate(over="ignore"):  # what float32 cannot hold is told below
            numbers[key] = values[:, column.start : column.end].astype(np.float32)
        broken = np.flatnonzero(~(np.abs(numbers[key]) <= LARGEST).all(axis=1))
        positions, firsts, counts = np.unique(
            np.searchsorted(ends, broken, side="right"), return_index=True, return_counts=True
        )
        for position, first, count in zip(positions.tolist(), firsts, counts, strict=True):
            place = tables.places[position]
            row = int(broken[first] - ends[position]) + len(place.rows)
            more = f", and in {count - 1} more" if count > 1 else ""
            first_row = numbers[key][broken[first]]
            got = "inf or nan" if not np.isfinite(first_row).all() else f"a number beyond {LARGEST:g}"
            what = f"{key}: {got} in row {row}{more}"
            faults.append(Fault(place.path, what, whose(layout, position)))
    return numbers


def _tasks(
    layout: Layout, annotations: Mapping[str, str], tables: Tables, faults: list[Fault]
) -> dict[int, str] | None:
    """The instructions by number, where one is needed; None where they cannot be read."""
    numbered = [name for name in annotations.values() if tables.columns[name][0].dtype != object]
    before = len(faults)
    tasks = read_tasks(layout.folder, layout.version, faults) if numbered else {}
    return tasks if len(faults) == before else None


def _texts(
    layout: Layout,
    key: str,
    name: str,
    tables: Tables,
    tasks: Mapping[int, str] | None,
    faults: list[Fault],
) -> Texts:
    """The instruction of each row: its text, or the number of a task."""
    parts: Sequence[NDArray[Any]] = tables.columns[name]
    nothing = Texts(np.asarray([""]), np.empty(0, dtype=np.int64))
    as_text = parts[0].dtype == object
    for position, part in enumerate(parts):
        problem = _no_instruction(part)
        if not problem and (part.dtype == object) is not as_text:
            problem = f"expected {'texts' if as_text else 'task numbers'} as in the episodes before"
        if problem:
            path = tables.places[position].path
            faults.append(Fault(path, f"{key}: {name}: {problem}", whose(layout, position)))
            return nothing
    values, numbers = np.unique(np.concatenate([part.reshape(-1) for part in parts]), return_inverse=True)
    if values.dtype == object:
        return Texts(values.astype(np.str_), numbers)
    if tasks is None:
        return nothing
    file = layout.folder / (TASKS if layout.version == 2 else TASKS_V3)
    unknown = [int(value) for value in values if int(value) not in tasks]
    for number in unknown:
        faults.append(Fault(file, f"no task {number}, which {key} refers to"))
    return nothing if unknown else Texts(np.asarray([tasks[int(value)] for value in values]), numbers)


def _no_instruction(part: NDArray[Any]) -> str:
    """Why the rows of an episode hold no instructions; empty where they do."""
    if part.dtype == object:
        empty = [row for row, text in enumerate(part.tolist()) if text is None]
        return f"expected a text, got nothing in row {empty[0]}" if empty else ""
    if part.size != len(part) or part.dtype == bool:
        return f"expected one task number a row, got {part[0].tolist()!r}"
    if part.dtype.kind == "f":
        flat = part.reshape(-1)
        broken = np.flatnonzero(~np.isfinite(flat) | (flat != np.rint(flat))).tolist()
        return f"expected a task number, got {flat[broken[0]]} in row {broken[0]}" if broken else ""
    return ""
