"""The files of a cache folder: written as a whole or not at all, and named once nothing needs them."""

from __future__ import annotations

import errno
import os
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from gr00t.files.atomic import atomic_write, unfinished
from gr00t.files.locks import lock

# Only what `written_as_a_whole` made: a folder may hold other people's files.
_ENDINGS = (".npy", ".npz", ".bin")
# What a disk says that has no more room: of the disk, of the user's quota, of the process's file size.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# A file this young may belong to a process that has not locked it yet.
_YOUNG = 60.0  # seconds


@contextmanager
def written_as_a_whole(target: Path) -> Iterator[IO[bytes]]:
    """Write a file aside, and give it its name only when it is whole and on the disk.

    What is written stays locked meanwhile: by that, what a killed process left can be told from what another
    one is writing, see `remove_abandoned`.

    Raises:
        OSError: the folder cannot be written, or the disk is full; the target is as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(target, durable=True) as aside, aside.open("xb") as file:
        lock(file)
        yield file


def remove_abandoned(cache: Path) -> int:
    """Remove what killed processes left half written; return its bytes."""
    freed = 0
    for path, name in unfinished(cache).items():
        if not name.endswith(_ENDINGS):
            continue
        try:
            with path.open("rb") as file:
                state = os.fstat(file.fileno())
                if time.time() - state.st_mtime > _YOUNG and lock(file):
                    path.unlink(missing_ok=True)
                    freed += state.st_size
        except FileNotFoundError:  # finished meanwhile
            continue
    return freed


def outdated(cache: Path, used: Sequence[str]) -> dict[Path, int]:
    """Caches, with their bytes, of videos that are gone or changed since; by the video they begin with.

    Args:
        cache: the folder.
        used: names of the caches that are needed.
    """
    current = {_first_video(cache, name) for name in used}
    found = {}
    for path in cache.glob("frames-*.npy"):
        if path.stem in used:
            continue
        video = _first_video(cache, path.stem)
        if video is None or video in current or not Path(video).is_file():
            found[path] = path.stat().st_size
    return found


def _first_video(cache: Path, name: str) -> str | None:
    """The video that a cache begins with; None where nothing says it."""
    try:
        with np.load(cache / f"{name}.times.npz") as stored:
            return str(stored["video"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
