"""SHA-256 of files that do not fit into memory."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, BinaryIO

_CHUNK_BYTES = 1 << 22


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        feed(digest, file)
    return digest.hexdigest()


def feed(digest: Any, file: BinaryIO) -> None:
    """Go on with a digest by the rest of a file."""
    buffer = bytearray(_CHUNK_BYTES)
    while count := file.readinto(buffer):  # type: ignore[attr-defined]
        digest.update(memoryview(buffer)[:count])
