"""Folders in the user's cache that nobody else can write: what is read from them may be run as code.

A cache may lie where everybody writes, XDG_CACHE_HOME=/tmp for one, and a name that can be foretold may be
taken there before we come. So each folder from `gr00t-duquant` on belongs to this user or to root, is none of
somebody else's symbolic links, and is writable by its owner alone, whatever the umask was when it was made.
"""

from __future__ import annotations

import logging
import os
import pwd
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path

logger = logging.getLogger(__name__)

APPLICATION = "gr00t-duquant"
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class CacheError(OSError):
    """The cache cannot be used; the message is one line that says why and names the variable that helps."""


def user_cache(environ: Mapping[str, str]) -> Path:
    """Return where this package keeps things for this user, absolute: `$XDG_CACHE_HOME/gr00t-duquant`.

    Raises:
        CacheError: neither that variable nor HOME is set, and the system knows no home of this user.
    """
    base = environ.get("XDG_CACHE_HOME") or home_cache(environ)
    return Path(os.path.abspath(base)) / APPLICATION


def home_cache(environ: Mapping[str, str]) -> Path:
    """Return `.cache` in the home of this user, whatever XDG_CACHE_HOME says.

    Raises:
        CacheError: HOME is not set, and the system knows no home of this user.
    """
    home = environ.get("HOME")
    if not home:
        try:
            home = pwd.getpwuid(os.geteuid()).pw_dir
        except KeyError:
            raise CacheError(
                f"neither XDG_CACHE_HOME nor HOME is set, and user {os.geteuid()} has no home on record; "
                "set XDG_CACHE_HOME to a folder of your own"
            ) from None
    return Path(home) / ".cache"


def private_folder(environ: Mapping[str, str], *names: str, is_verified: bool = False) -> Path:
    """Return the folder `names` below `user_cache`, made where it is not there yet, for its owner alone.

    What lies in one of this user's that others could write is removed first: they may have written it.

    Args:
        is_verified: the content is compared before each use, so that it may stay.

    Raises:
        CacheError: it cannot be made, or is somebody else's.
    """
    folder = user_cache(environ)
    make_folders(folder.parent)
    for name in ("", *names):
        folder = folder / name
        _make(folder)
        was_open = _close_to_others(folder)
    if was_open and not is_verified:
        for entry in list(folder.iterdir()):
            remove(entry)
        logger.warning("%s could be written by others: closed to them and emptied", folder)
    return folder


def owner_problem(status: os.stat_result) -> str:
    """Say why what has this status may not be trusted; empty where only this user and root can write it."""
    if status.st_uid not in (os.geteuid(), 0):
        return f"it belongs to user {status.st_uid}, not to user {os.geteuid()}"
    if status.st_mode & _OTHERS_WRITE:
        return f"others can write it (mode {stat.S_IMODE(status.st_mode):o})"
    return ""


def remove(path: Path) -> None:
    """Remove whatever is at `path`, a link and not what it points to; nothing there is no error."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def make_folders(folder: Path) -> None:
    """Make `folder` and those above it that are not there, for their owner alone.

    `mkdir(parents=True)` leaves the modes of those above to the umask.

    Raises:
        CacheError: one cannot be made.
    """
    if not os.path.isdir(folder):  # Path.is_dir raises where a folder above may not be entered
        if folder.parent != folder:
            make_folders(folder.parent)
        _make(folder)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise CacheError(
            f"{folder} cannot be made ({error.strerror}); set XDG_CACHE_HOME to a folder that you can write"
        ) from error


def _close_to_others(folder: Path) -> bool:
    """Check the owner and take from others what they may write; return whether they could.

    Raises:
        CacheError: it is none of this user's folders.
    """
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "no folder"
        raise CacheError(f"{folder} is {kind}; remove it, or set XDG_CACHE_HOME to a folder of your own")
    was_open = bool(status.st_mode & _OTHERS_WRITE)
    if was_open and status.st_uid == os.geteuid():
        folder.chmod(stat.S_IMODE(status.st_mode) & ~_OTHERS_WRITE)
        status = folder.lstat()
    if problem := owner_problem(status):
        raise CacheError(f"{folder} is not used: {problem}; set XDG_CACHE_HOME to a folder of your own")
    return was_open
