"""Locks between processes on files and folders that are open."""

from __future__ import annotations

import errno
import fcntl
from typing import IO, Any

_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF)


def lock(handle: int | IO[Any]) -> bool | None:
    """Lock an open file or folder against other processes until it is closed; nobody is waited for.

    Returns:
        Whether it is ours now; None where the file system knows no locks, as some in a network do not.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return None
        raise
    return True


def wait_for_lock(handle: int | IO[Any], *, shared: bool = False) -> None:
    """Lock an open file or folder against other openings of it until it is closed, as soon as that can be.

    Where the file system knows no locks, as some in a network do not, nothing is locked.

    Args:
        handle: what is open.
        shared: others may have it at the same time, if they share it, too.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
