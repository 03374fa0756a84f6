"""A compiled library that may be loaded: this user's own or root's, and whole.

It runs with all rights of who loads it. What keeps others from it are its owner and its mode, and those of
the folder (`private_folder`). Its name holds the hash of its content: that is no signature, but finds what
was cut short, flipped or filled with zeros, which would end the process by a signal once it is loaded.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
from pathlib import Path

from gr00t.files.private_folder import owner_problem, remove

logger = logging.getLogger(__name__)

_STEM, _SUFFIX = "duquant-", ".so"


class DamagedLibraryError(Exception):
    """A library that may not be loaded; the message says why."""


def keep_library_file(library: Path, folder: Path) -> Path:
    """Move `library`, from the same file system, into `folder`, under the name that its content asks for.

    Raises:
        OSError: it cannot be written there.
    """
    library.chmod(0o600)
    with library.open("rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
        os.fsync(file.fileno())
    target = folder / f"{_STEM}{digest}{_SUFFIX}"
    if target.is_dir():
        remove(target)
    os.replace(library, target)
    return target


def find_library_file(folder: Path) -> Path | None:
    """Return the library in `folder` that may be loaded; what looks like one and may not is removed.

    Raises:
        OSError: the folder cannot be read, or not be tidied.
    """
    for path in sorted(folder.glob(f"{_STEM}*{_SUFFIX}")):
        try:
            os.close(open_library_file(path))
        except DamagedLibraryError as error:
            logger.warning("[GR00T-DUQUANT] %s is not loaded: %s; compiled anew", path, error)
            remove(path)
        else:
            return path
    return None


def open_library_file(path: Path) -> int:
    """Return a descriptor of the library at `path`, open for reading, after looking at what it holds.

    Who loads by the descriptor loads what was looked at, whatever the name means by then.

    Raises:
        DamagedLibraryError: it is no file, somebody else's, or not what its name says.
    """
    try:
        # Neither through a link nor waiting for the other end of a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise DamagedLibraryError(f"it cannot be opened ({error.strerror})") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise DamagedLibraryError("it is no regular file")
        if problem := owner_problem(status):
            raise DamagedLibraryError(problem)
        with open(descriptor, "rb", closefd=False) as file:
            digest = hashlib.sha256(file.read()).hexdigest()
            file.seek(0)
        if path.name != f"{_STEM}{digest}{_SUFFIX}":
            raise DamagedLibraryError(f"its content is damaged ({status.st_size} bytes)")
    except DamagedLibraryError:
        os.close(descriptor)
        raise
    return descriptor
