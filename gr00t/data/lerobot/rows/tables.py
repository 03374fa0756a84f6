"""The rows of all episodes, column by column, wherever their files have them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gr00t.data.lerobot.meta.faults import Fault
from gr00t.data.lerobot.meta.layout import Layout
from gr00t.data.lerobot.meta.parquet_files import ColumnError, numbers_in, open_parquet, read_columns
from gr00t.spelling import did_you_mean

_EPISODE = "episode_index"
# Of an episode whose file cannot be read, which is a fault already.
_NO_ROWS: NDArray[np.int64] = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Place:
    """Where the rows of an episode are: these rows of that file."""

    path: Path
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class Tables:
    """What the parquet files hold of the episodes, each list in their order.

    Attributes:
        places: of the rows.
        columns: by name (rows, ...), numbers or, of a text column, texts as objects.
    """

    places: list[Place]
    columns: dict[str, list[NDArray[Any]]]


def read_tables(
    layout: Layout, names: Collection[str], texts: Collection[str], faults: list[Fault]
) -> Tables | None:
    """Read columns of all episodes; None, and faults, where a row or a column is missing.

    Args:
        layout: what to read.
        names: of the columns.
        texts: which of them may hold texts instead of numbers.
        faults: gets what is wrong.
    """
    before = len(faults)
    places: dict[int, Place] = {}
    parts: dict[str, dict[int, NDArray[Any]]] = {name: {} for name in names}
    lacking: dict[str, list[tuple[Path, list[str]]]] = {}
    wanted = [*names, _EPISODE] if layout.version == 3 else list(names)
    for path, named in _files(layout, places):
        file = open_parquet(path, layout.folder, faults)
        columns = None if file is None else read_columns(file, path, wanted, faults)
        if file is None or columns is None:
            places.update({position: Place(path, _NO_ROWS) for position in named})
            continue
        there = list(file.schema_arrow.names)
        for name in wanted:
            if name not in there:
                lacking.setdefault(name, []).append((path, there))
        if layout.version == 2:
            rows_of = dict.fromkeys(named, np.arange(file.metadata.num_rows))
        else:
            found = _rows_by_episode(layout, columns.pop(_EPISODE, None), path, faults)
            known = dict.fromkeys(named, _NO_ROWS) if found is None else found
            rows_of = {position: rows for position, rows in known.items() if position not in places}
        places.update({position: Place(path, rows) for position, rows in rows_of.items()})
        for name, column in columns.items():
            values = _values(name, column, name in texts, path, faults)
            if values is not None:
                parts[name].update({position: values[rows] for position, rows in rows_of.items()})
    faults.extend(_lacking(name, files) for name, files in lacking.items())
    faults.extend(_wrong_lengths(layout, places))
    for name, by_episode in parts.items():
        faults.extend(_differing(name, by_episode, places))
    if len(faults) > before:
        return None
    order = range(len(layout.episodes))
    ordered = {name: [found[position] for position in order] for name, found in parts.items()}
    return Tables([places[position] for position in order], ordered)


def _files(layout: Layout, places: Collection[int]) -> Iterator[tuple[Path, list[int]]]:
    """Files and the episodes that name them; in v3 also the other files, as long as an episode is not found.

    LeRobot's programs find rows by their `episode_index` alone, and one of its converters wrote the number of
    the file before for the first episode of each.
    """
    named: dict[Path, list[int]] = {}
    for position, episode in enumerate(layout.episodes):
        named.setdefault(episode.data_file, []).append(position)
    yield from named.items()
    if layout.version == 3:
        for path in sorted(layout.folder.glob("data/*/*.parquet")):
            if path not in named and len(places) < len(layout.episodes):
                yield path, []


def _rows_by_episode(
    layout: Layout, numbers: pa.ChunkedArray | None, path: Path, faults: list[Fault]
) -> dict[int, NDArray[np.int64]] | None:
    """The rows of each episode of which the file has any; None where it does not say whose its rows are."""
    if numbers is None:
        return None
    if not len(numbers):
        return {}
    try:
        owners = numbers_in(numbers).reshape(len(numbers), -1)
    except ColumnError as error:
        faults.append(Fault(path, f"{_EPISODE}: {error}"))
        return None
    if owners.shape[1] != 1:
        faults.append(Fault(path, f"{_EPISODE}: expected one number a row, got {owners[0].tolist()}"))
        return None
    owners = owners[:, 0]
    positions = {episode.index: position for position, episode in enumerate(layout.episodes)}
    order = np.argsort(owners, kind="stable")
    indices, starts = np.unique(owners[order], return_index=True)
    parts = np.split(order, starts[1:])
    return {positions[i]: rows for i, rows in zip(indices.tolist(), parts, strict=True) if i in positions}


def _wrong_lengths(layout: Layout, places: Mapping[int, Place]) -> Iterator[Fault]:
    """A fault for each episode that has more or fewer rows than its description says."""
    for position, episode in enumerate(layout.episodes):
        place = places.get(position)
        if place is None:
            what = f"has no row of episode {episode.index}, nor has another file of the set"
            yield Fault(episode.data_file, what)
        elif place.rows is not _NO_ROWS and len(place.rows) != episode.length:
            whose = f"episode {episode.index}" if layout.version == 3 else ""
            yield Fault(place.path, f"{len(place.rows)} rows, its episode has {episode.length}", whose)


def _values(
    name: str, column: pa.ChunkedArray, may_be_text: bool, path: Path, faults: list[Fault]
) -> NDArray[Any] | None:
    if may_be_text and (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return np.asarray(column.to_numpy(zero_copy_only=False), dtype=object)
    try:
        values = numbers_in(column)
        # A list of one number says what a number says, and both occur in one set.
        return values.reshape(-1) if values.shape[1:] == (1,) else values
    except ColumnError as error:
        faults.append(Fault(path, f"{name}: {error}"))
        return None


def _lacking(name: str, files: Sequence[tuple[Path, list[str]]]) -> Fault:
    path, there = files[0]
    more = f", nor have {len(files) - 1} other files" if len(files) > 1 else ""
    near = did_you_mean(name, there)
    listed = f"it has {', '.join(there)}"
    return Fault(
        path, f"no column {name!r}{more}", allowed=near if near.startswith("known") else f"{near} {listed}"
    )


def _differing(name: str, values: Mapping[int, NDArray[Any]], places: Mapping[int, Place]) -> list[Fault]:
    """A fault for the first file whose rows have another shape than those before."""
    shapes: dict[tuple[int, ...], int] = {}
    for position in sorted(values):
        shapes.setdefault(values[position].shape[1:], position)
    if len(shapes) < 2:
        return []
    (usual, first), (other, second) = list(shapes.items())[:2]
    shape = {found: " x ".join(map(str, found)) or "one number" for found in (usual, other)}
    what = f"{name}: rows of {shape[other]}, those of {places[first].path} of {shape[usual]}"
    return [Fault(places[second].path, what)]
