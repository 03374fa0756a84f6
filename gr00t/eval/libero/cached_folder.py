"""Folders that are written once into the user's cache, whole or not at all.

A folder's name holds the hash of what it is made from. Two processes that write it at once end with the same
complete folder, and one that is killed halfway leaves nothing under that name.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path


def is_complete(folder: Path, sizes: Mapping[str, int]) -> bool:
    """Whether `folder` holds every file of `sizes`, relative name to bytes; a cleaner may have taken some."""
    return all(
        (folder / name).is_file() and (folder / name).stat().st_size == size for name, size in sizes.items()
    )


def publish(target: Path, files: Mapping[str, bytes]) -> None:
    """Put `files` (by relative name) into the folder `target`, which appears with all of them.

    Raises:
        OSError: if the folder above cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        for name, content in files.items():
            path = staging / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        staging.chmod(0o755)
        try:
            os.rename(staging, target)
        except OSError:
            # Another process was faster, or a cleaner took files from the folder: put all in their places.
            for name in files:
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(staging / name, target / name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
