"""Rows of a file that is served. Oracle: the bytes as they were written; what others do to the file."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from gr00t.files.file_rows import ROWS_AT_A_TIME, FileRows

COUNT, SIZE, BEFORE, AFTER = 2 * ROWS_AT_A_TIME + 5, 24, b"a header", b"other tensors"
CONTENT = os.urandom(COUNT * SIZE)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "rows").write_bytes(BEFORE + CONTENT + AFTER)
    return tmp_path / "rows"


def rows_of(path: Path) -> FileRows:
    digest = hashlib.sha256(BEFORE)
    with path.open("rb") as file:
        file.seek(len(BEFORE))
        rows = FileRows(file, path, COUNT, SIZE, ValueError)
        for first in range(0, len(CONTENT), rows.block_bytes):
            rows.note(digest)
            digest.update(CONTENT[first : first + rows.block_bytes])
        rows.note(digest)
    digest.update(AFTER)  # the one that goes on is another one
    return rows


def test_every_row_is_read_as_it_was(path: Path) -> None:
    rows = rows_of(path)
    assert b"".join(rows.read(row) for row in range(COUNT)) == CONTENT


@pytest.mark.parametrize("row", [0, ROWS_AT_A_TIME, COUNT - 1])
def test_one_bit_that_is_written_over_is_an_error_and_never_another_number(path: Path, row: int) -> None:
    rows = rows_of(path)
    with path.open("r+b") as file:
        file.seek(len(BEFORE) + row * SIZE)
        file.write(bytes([CONTENT[row * SIZE] ^ 1]))
    with pytest.raises(ValueError, match="rows: written over or cut while it is served; start the server"):
        rows.read(row)
    other = (row + ROWS_AT_A_TIME) % COUNT
    assert rows.read(other) == CONTENT[other * SIZE : (other + 1) * SIZE]


def test_a_file_that_is_cut_is_an_error_and_no_signal(path: Path) -> None:
    rows = rows_of(path)
    os.truncate(path, len(BEFORE) + SIZE)
    for row in (0, COUNT - 1):
        with pytest.raises(ValueError, match="written over or cut"):
            rows.read(row)


def test_a_file_that_is_replaced_or_removed_is_read_on(path: Path) -> None:
    rows = rows_of(path)
    (path.parent / "new").write_bytes(bytes(10))
    (path.parent / "new").replace(path)
    assert rows.read(1) == CONTENT[SIZE : 2 * SIZE]
    path.unlink()
    assert rows.read(COUNT - 1) == CONTENT[-SIZE:]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc here to see open files in")
def test_the_file_is_closed_with_the_last_who_reads_it(path: Path) -> None:
    rows = rows_of(path)
    opened = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
    assert opened.count(str(path)) == 1
    del rows
    opened = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
    assert str(path) not in opened
