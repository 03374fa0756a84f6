"""SHA-256 hashes over what an artefact consists of: computed when it is exported, checked when it is loaded.

The hash of the tensors of a file covers its header (`file_header`) without the metadata, where the hash
itself is kept. Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

from gr00t.quantization.file_header import ArtefactError, read_header

__all__ = ["ArtefactError", "check_seals", "hash_tensors", "read_header", "seal_file", "write_with_metadata"]

# Tensors start at a multiple of the cache line, so that rows mapped from the file do as well.
_ALIGNMENT = 64
_CHUNK_BYTES = 1 << 22
_THREADS = 4


def hash_tensors(path: Path) -> str:
    """Return the SHA-256 of names, dtypes, shapes, places and bytes of all tensors in a safetensors file.

    Raises:
        ArtefactError: as `read_header`.
    """
    header = read_header(path)
    digest = hashlib.sha256(_canonical(header.tensors))
    with path.open("rb") as file:
        file.seek(header.start)
        _feed(digest, file)
    return digest.hexdigest()


def write_with_metadata(saved: bytes, metadata_for: Callable[[str], Mapping[str, str]], path: Path) -> None:
    """Write a safetensors file with metadata that depend on the hash of its tensors.

    Args:
        saved: a whole safetensors file without metadata.
        metadata_for: makes the metadata from `hash_tensors` of the file that is written.
        path: where it is written.
    """
    length = struct.unpack("<Q", saved[:8])[0]
    tensors = json.loads(saved[8 : 8 + length])
    tensors.pop("__metadata__", None)
    data = memoryview(saved)[8 + length :]
    digest = hashlib.sha256(_canonical(tensors))
    digest.update(data)
    metadata = dict(metadata_for(digest.hexdigest()))
    header = json.dumps({"__metadata__": metadata, **tensors}, separators=(",", ":")).encode()
    header += b" " * (-(8 + len(header)) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)))
        file.write(header)
        file.write(data)


def seal_file(path: Path) -> dict[str, Any]:
    """Return size and SHA-256 of a file, for `check_seals`."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        _feed(digest, file)
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def check_seals(
    folder: Path, files: Mapping[str, Mapping[str, Any]], tensors_file: str, tensors_sha256: str
) -> int:
    """Read every file of an artefact and compare it with what was exported; return how many bytes that were.

    The bytes are read, not mapped: what is hashed does not stay in the process's memory.

    Args:
        folder: of the artefact.
        files: size and SHA-256 by path in the folder.
        tensors_file: the file whose tensors have a hash of their own.
        tensors_sha256: that hash.

    Raises:
        ArtefactError: files are missing, truncated or changed; every one of them is named.
    """

    def fault(name: str) -> str | None:
        path = folder / name
        if name == tensors_file:
            return None if hash_tensors(path) == tensors_sha256 else "its tensors are not those exported"
        if not path.is_file():
            return "missing"
        if path.stat().st_size != files[name]["bytes"]:
            return f"{path.stat().st_size} bytes, exported were {files[name]['bytes']}"
        return None if seal_file(path)["sha256"] == files[name]["sha256"] else "changed since it was exported"

    names = [tensors_file, *files]
    with ThreadPoolExecutor(_THREADS) as pool:  # hashing lets go of the interpreter's lock
        faults = dict(zip(names, pool.map(fault, names), strict=True))
    wrong = [f"{name}: {found}" for name, found in faults.items() if found]
    if wrong:
        raise ArtefactError(f"{folder}: the artefact is damaged\n  " + "\n  ".join(wrong))
    return sum((folder / name).stat().st_size for name in names)


def _canonical(tensors: Mapping[str, Any]) -> bytes:
    return json.dumps(tensors, sort_keys=True, separators=(",", ":")).encode()


def _feed(digest: Any, file: BinaryIO) -> None:
    buffer = bytearray(_CHUNK_BYTES)
    while count := file.readinto(buffer):  # type: ignore[attr-defined]
        digest.update(memoryview(buffer)[:count])
