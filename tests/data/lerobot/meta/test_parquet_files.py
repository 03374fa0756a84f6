"""Columns as arrays. Oracle: Python's own lists of the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gr00t.data.lerobot.meta.faults import Fault
from gr00t.data.lerobot.meta.parquet_files import ColumnError, numbers_in, open_parquet, read_columns

ROWS = [[1, 2], [3, 4], [5, 6]]
SIX = pa.array([1, 2, 3, 4, 5, 6], pa.float32())


def chunked(array: pa.Array) -> pa.ChunkedArray:
    """In two parts that begin within what lies behind them, as they do in files of many row groups."""
    return pa.chunked_array([array.slice(0, 1), array.slice(1)])


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array(ROWS), ROWS),
        (pa.array(ROWS, pa.large_list(pa.int8())), ROWS),
        (pa.array(ROWS, pa.list_(pa.float16(), 2)), ROWS),
        (pa.FixedSizeListArray.from_arrays(SIX, 2), ROWS),
        (pa.array([[[1, 2], [3, 4]], [[5, 6], [7, 8]]]), [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]),
        (pa.array([1.5, 2.5, 3.5]), [1.5, 2.5, 3.5]),
        (pa.array([True, False]), [True, False]),
        (pa.array([7, 8, 7]).dictionary_encode(), [7, 8, 7]),
        (pa.array([1, 2], pa.decimal128(5, 2)), [1, 2]),
        (pa.array([[], []], pa.list_(pa.float64())), [[], []]),
        (
            pa.ExtensionArray.from_storage(
                pa.fixed_shape_tensor(pa.float32(), (2,)), pa.array(ROWS, pa.list_(pa.float32(), 2))
            ),
            ROWS,
        ),
    ],
)
def test_numbers_are_those_of_the_rows(column: pa.Array, expected: list[Any]) -> None:
    for parts in (pa.chunked_array([column]), chunked(column)):
        found = numbers_in(parts)
        assert found.tolist() == expected
        assert found.shape == np.asarray(expected).shape


def test_a_column_without_rows_has_no_numbers() -> None:
    for kind in (pa.float64(), pa.list_(pa.float64()), pa.list_(pa.float64(), 3)):
        assert len(numbers_in(pa.chunked_array([], kind))) == 0


@pytest.mark.parametrize(
    ("column", "problem"),
    [
        (pa.array([[1.0], None]), "expected numbers, got nothing in row 1"),
        (pa.array([[1.0, 2.0], [3.0, None]]), "expected numbers, got nothing in row 1"),
        (pa.array([[[1], [2]], [[3], None]]), "expected numbers, got nothing in row 1"),
        (pa.array([None, None]), "expected numbers, got nothing in row 0"),
        (pa.array([[1.0], [2.0, 3.0]]), "row 1 has 2 numbers, those before have 1"),
        (pa.array([[[1], [2]], [[3], [4, 5]]]), "row 1 has 2 numbers, those before have 1"),
        (pa.array(["a", "b"]), "expected numbers, got 'a' in row 0"),
        (pa.array([{"a": 1}, {"a": 2}]), "expected numbers, got {'a': 1} in row 0"),
        (pa.array(["a" * 99999]), "expected numbers, got 'aaaaaaaaaaaa...aaaaaaaaaaaaa' in row 0"),
        (pa.array([b"\x00", b"\x01"]), "expected numbers, got b'\\x00' in row 0"),
    ],
)
def test_rows_that_hold_no_numbers_are_named(column: pa.Array, problem: str) -> None:
    for parts in (pa.chunked_array([column]), chunked(column)):
        with pytest.raises(ColumnError) as error:
            numbers_in(parts)
        assert str(error.value) == problem


def test_a_name_that_two_columns_have_is_told(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2]), pa.array([3])], ["a", "b", "a"]), path)
    faults: list[Fault] = []
    file = open_parquet(path, tmp_path, faults)
    assert file is not None
    assert read_columns(file, path, ["b", "a"], faults) is None
    assert [str(fault) for fault in faults] == [f"{path}: has two columns 'a'"]
