"""Parquet files, and their columns as NumPy arrays; rows are never turned into Python objects."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gr00t.data.lerobot.meta.faults import Fault
from gr00t.data.lerobot.meta.meta_files import absent


class ColumnError(ValueError):
    """A column that holds something else than numbers; the message names the first such row."""


def open_parquet(path: Path, folder: Path, faults: list[Fault]) -> pq.ParquetFile | None:
    """A parquet file whose end has been read; None, and a fault, where that is not possible."""
    fault = absent(path, folder)
    if fault is not None:
        faults.append(fault)
        return None
    try:
        return pq.ParquetFile(path.absolute())  # a relative one that begins with `NAME:` is a URI for it
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        faults.append(_unreadable(path, error))
        return None


def read_columns(
    file: pq.ParquetFile, path: Path, names: Sequence[str], faults: list[Fault]
) -> dict[str, pa.ChunkedArray] | None:
    """Columns by name, those of them that the file has; None, and a fault, where they are damaged."""
    present = [name for name in dict.fromkeys(names) if name in file.schema_arrow.names]
    try:
        table = file.read(columns=present, use_threads=False)
        return {name: table.column(name) for name in present}
    except KeyError:
        twice = next(name for name in present if file.schema_arrow.names.count(name) > 1)
        faults.append(Fault(path, f"has two columns {twice!r}"))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        faults.append(_unreadable(path, error))
    return None


def numbers_in(column: pa.ChunkedArray) -> NDArray[Any]:
    """A column as an array of numbers or truth values; the first dimension is the rows.

    Raises:
        ColumnError: a row has no number, others than numbers, or another count of them than the first row.
    """
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    array = column.combine_chunks()
    shape = [len(array)]
    while True:
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
        size = math.prod(shape[1:])
        if array.null_count:
            empty = int(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))[0])
            raise ColumnError(f"expected numbers, got nothing in row {empty // size}")
        if pa.types.is_fixed_size_list(array.type):
            shape.append(array.type.list_size)
        elif pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
            shape.append(_common_length(array, size))
        else:
            break
        array = array.flatten()
    kind = array.type
    if pa.types.is_decimal(kind):
        array = array.cast(pa.float64())
    elif not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        # Shortened: a row may be an image.
        first = column.slice(0, 1).to_pylist()
        got = f"{reprlib.repr(first[0])} in row 0" if first else str(column.type)
        raise ColumnError(f"expected numbers, got {got}")
    return np.asarray(array.to_numpy(zero_copy_only=False)).reshape(shape)


def _common_length(array: pa.Array, size: int) -> int:
    lengths = array.value_lengths().to_numpy(zero_copy_only=False)
    if not len(lengths):
        return 0
    other = np.flatnonzero(lengths != lengths[0])
    if len(other):
        row = int(other[0]) // size
        raise ColumnError(f"row {row} has {lengths[other[0]]} numbers, those before have {lengths[0]}")
    return int(lengths[0])


def _unreadable(path: Path, error: Exception) -> Fault:
    return Fault(path, f"cannot be read as parquet: {error}", helps="download it again")
