"""Folders that results go to. Where one cannot be written, the error names it and the option that helps."""

from __future__ import annotations

import contextlib
import errno
import itertools
from collections.abc import Iterator
from pathlib import Path


class OutputError(OSError):
    """Results cannot be written; the message is one line that names the folder and the option."""


@contextlib.contextmanager
def writing(folder: Path, option: str) -> Iterator[None]:
    """Say what the system refuses within as one line: by itself it names no file where a disk is full.

    Args:
        folder: that is made or written within.
        option: with which another one is named.

    Raises:
        OutputError: the system refused something.
    """
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        room = "make room there, or " if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise OutputError(
            f"no results can be written to {folder.absolute()} ({error.strerror or error}); "
            f"{room}name another folder: {option} FOLDER"
        ) from error


@contextlib.contextmanager
def unused_folder(wanted: Path, option: str) -> Iterator[Path]:
    """Make a folder of this name, or with -2, -3, ... where that is taken; removed if it stays empty.

    Raises:
        OutputError: it cannot be made; another one is named with `option`.
    """
    with writing(wanted, option):
        wanted.parent.mkdir(parents=True, exist_ok=True)
        for count in itertools.count(1):
            path = wanted if count == 1 else wanted.with_name(f"{wanted.name}-{count}")
            with contextlib.suppress(FileExistsError):
                path.mkdir()
                break
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            path.rmdir()
