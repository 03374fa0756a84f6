"""Rows of equal size in a file that stays open: read when they are wanted, and checked whenever they are.

Nothing is mapped: who shortens a mapped file kills its reader by SIGBUS. What is read again is compared with
what was read first, without a second hash of it: SHA-256 goes through a file in one chain, so the digest
before a block, kept, goes on by the block's bytes to the digest after it, or they are others.
"""

from __future__ import annotations

import hashlib
import os
import weakref
from pathlib import Path
from typing import BinaryIO

ROWS_AT_A_TIME = 16


class FileRows:
    """Rows in one file, which may be renamed, replaced or removed, but not written over.

    Args:
        file: standing at the first row; it may be closed afterwards.
        path: of it, for errors.
        count: of rows.
        row_bytes: size of a row.
        error: raised where rows are not what they were.
    """

    def __init__(
        self, file: BinaryIO, path: Path, count: int, row_bytes: int, error: type[ValueError]
    ) -> None:
        self._count, self._row_bytes = count, row_bytes
        self._path, self._error = path, error
        self._start = file.tell()
        self._file = os.dup(file.fileno())
        self._digests: list[hashlib._Hash] = []
        weakref.finalize(self, os.close, self._file)

    @property
    def block_bytes(self) -> int:
        """Bytes of the rows that are read, and checked, together."""
        return ROWS_AT_A_TIME * self._row_bytes

    def note(self, digest: hashlib._Hash) -> None:
        """Note the digest of all that comes before the next block; at the end, of all."""
        self._digests.append(digest.copy())

    def read(self, row: int) -> bytearray:
        """Return the bytes of one row.

        Raises:
            ValueError: the file was written over or cut; of the class that was given.
            OSError: it cannot be read.
        """
        block, within = divmod(row, ROWS_AT_A_TIME)
        rows = min(ROWS_AT_A_TIME, self._count - block * ROWS_AT_A_TIME)
        content = os.pread(self._file, rows * self._row_bytes, self._start + block * self.block_bytes)
        digest = self._digests[block].copy()
        digest.update(content)
        if digest.digest() != self._digests[block + 1].digest():
            raise self._error(
                f"{self._path}: written over or cut while it is served; start the server again, and replace "
                "files by renaming others"
            )
        return bytearray(content[within * self._row_bytes : (within + 1) * self._row_bytes])
