"""Files and folders that appear, or change, as a whole, whenever their writer is killed.

What is written stands aside meanwhile, hidden and under a name that nobody can foretell, and is renamed at
the end. A kill leaves `.NAME.XXXXXXXXXXXXXXXX.partial`, which nothing reads.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from gr00t.files.private_folder import remove

_ENDING = ".partial"
_PARTIAL = re.compile(r"\.(.+)\.[0-9a-f]{16}\.partial")


@contextlib.contextmanager
def atomic_write(target: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield a path beside `target` for a file or a folder, which becomes `target` when the block ends.

    Where the block raises an error, `target` is as it was and nothing is left beside it. A folder takes the
    place of none, or of an empty one.

    Args:
        target: in a folder that exists.
        durable: the file is on the disk before it has its name, so that not even a power cut leaves a part.

    Raises:
        OSError: it cannot be written; the error names `target`.
    """
    aside = target.with_name(f".{target.name}.{os.urandom(8).hex()}{_ENDING}")
    try:
        yield aside
        if durable:
            with aside.open("rb") as file:
                os.fsync(file.fileno())
        os.replace(aside, target)
    except OSError as error:
        if error.filename in (str(aside), aside):
            raise OSError(error.errno, error.strerror, str(target)) from error
        raise
    finally:
        # Where the disk refuses this, too, the first error is the one to tell.
        with contextlib.suppress(OSError):
            remove(aside)


def replace_file(path: Path, content: str | bytes, *, durable: bool = False) -> None:
    """Write a file, text as UTF-8, so that a reader finds the old one or the new one, never a part.

    Raises:
        OSError: it cannot be written; the earlier one is as it was.
    """
    with atomic_write(path, durable=durable) as aside:
        aside.write_bytes(content.encode() if isinstance(content, str) else content)


def unfinished(folder: Path) -> dict[Path, str]:
    """What killed writers left in a folder, or others still write, and what its name was to be."""
    found = ((path, _PARTIAL.fullmatch(path.name)) for path in sorted(folder.glob(f".*{_ENDING}")))
    return {path: match[1] for path, match in found if match}
