"""Pointers of Git LFS, which stand in the place of large files where they were not fetched."""

from __future__ import annotations

from pathlib import Path

LFS_POINTER = b"version https://git-lfs"


def is_lfs_pointer(path: Path) -> bool:
    """Whether a file is such a pointer, by its first bytes."""
    with path.open("rb") as file:
        return file.read(len(LFS_POINTER)) == LFS_POINTER
