"""SHA-256 hashes over what an artefact consists of: computed when it is exported, checked when it is loaded.

The hash of the tensors of a file covers its header (`safetensors_header`) without the metadata, where the
hash itself is kept. Imports no torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from gr00t.files.safetensors_header import Header, parse_header

# Tensors start at a multiple of the cache line, so that for who maps the file its rows do as well.
_ALIGNMENT = 64
# What is read of a checkpoint's folder: weights, their index, configurations, a tokenizer, statistics.
_READ = (".json", ".safetensors", ".txt", ".model", ".jinja")
_METADATA = "experiment_cfg"
_CHUNK_BYTES = 1 << 22
_THREADS = 4


class ArtefactError(ValueError):
    """An artefact that cannot be used, or not be made; the message names the file and what is wrong."""


def read_header(path: Path) -> Header:
    """Read the header of a safetensors file, whose tensors must all be there.

    Raises:
        ArtefactError: the file is truncated, or its header is damaged.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return parse_header(file, path.stat().st_size, path, ArtefactError)


def hash_tensors(path: Path) -> str:
    """Return the SHA-256 of names, dtypes, shapes, places and bytes of all tensors in a safetensors file.

    Raises:
        ArtefactError: as `read_header`.
    """
    header = read_header(path)
    digest = tensors_digest(header)
    with path.open("rb") as file:
        file.seek(header.start)
        _feed(digest, file)
    return digest.hexdigest()


def tensors_digest(header: Header) -> hashlib._Hash:
    """Return the digest that `hash_tensors` goes on with, by the bytes of the tensors."""
    return hashlib.sha256(_canonical(header.tensors))


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
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
    return {"bytes": path.stat().st_size, "sha256": hash_file(path)}


def check_seals(
    folder: Path,
    files: Mapping[str, Mapping[str, Any]],
    tensors_file: str,
    tensors_sha256: str,
    *,
    hash_of: Callable[[Path], str] = hash_file,
    hash_of_tensors: Callable[[Path], str] = hash_tensors,
) -> int:
    """Read every file of an artefact and compare it with what was exported; return how many bytes that were.

    Args:
        folder: of the artefact.
        files: size and SHA-256 by path in the folder.
        tensors_file: the file whose tensors have a hash of their own.
        tensors_sha256: that hash.
        hash_of: as `hash_file`; whoever keeps what was read gives one of their own.
        hash_of_tensors: as `hash_tensors`, likewise.

    Raises:
        ArtefactError: files are missing, truncated, changed, outside the folder, or there although they are
            not sealed; every one of them is named.
    """

    def fault(name: str) -> str | None:
        path = folder / name
        try:
            if _leads_away(folder, path):
                return "leads out of the folder"
            if name == tensors_file:
                return (
                    None if hash_of_tensors(path) == tensors_sha256 else "its tensors are not those exported"
                )
            if not path.is_file():
                return "missing"
            if path.stat().st_size != files[name]["bytes"]:
                return f"{path.stat().st_size} bytes, exported were {files[name]['bytes']}"
            return None if hash_of(path) == files[name]["sha256"] else "changed since it was exported"
        except (OSError, MemoryError) as error:
            return f"cannot be read ({error})"

    names = [tensors_file, *files]
    faults: dict[str, str | None] = dict.fromkeys(
        _unsealed(folder, names), "was not exported, but is of a kind that is read"
    )
    with ThreadPoolExecutor(_THREADS) as pool:  # hashing lets go of the interpreter's lock
        faults |= dict(zip(names, pool.map(fault, names), strict=True))
    wrong = [f"{name}: {found}" for name, found in faults.items() if found]
    if wrong:
        raise ArtefactError(f"{folder}: the artefact is damaged\n  " + "\n  ".join(wrong))
    return sum((folder / name).stat().st_size for name in names)


def is_within(name: object) -> bool:
    """Whether `name` is the plain relative path of a file, which cannot lead out of a folder by itself."""
    if not isinstance(name, str) or not name or any(letter in name for letter in "\0\\"):
        return False
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and path.as_posix() == name != "."


def _leads_away(folder: Path, path: Path) -> bool:
    """Whether a link leads out of the folder; those of the model hub's cache lead to its `blobs`."""
    root = folder.resolve()
    roots = [root, root.parents[1] / "blobs"] if root.parent.name == "snapshots" else [root]
    found = Path(os.path.realpath(path))
    return not any(found.is_relative_to(allowed) for allowed in roots)


def _unsealed(folder: Path, sealed: list[str]) -> list[str]:
    """Files that a loader would read, or might one day, of which the manifest says nothing."""
    beside = [path for path in folder.iterdir() if path.suffix.lower() in _READ]
    beside += (folder / _METADATA).glob("*")
    names = (path.relative_to(folder).as_posix() for path in beside if not path.name.startswith("."))
    return sorted(name for name in names if name not in sealed)


def _canonical(tensors: Mapping[str, Any]) -> bytes:
    return json.dumps(tensors, sort_keys=True, separators=(",", ":")).encode()


def _feed(digest: Any, file: BinaryIO) -> None:
    buffer = bytearray(_CHUNK_BYTES)
    while count := file.readinto(buffer):  # type: ignore[attr-defined]
        digest.update(memoryview(buffer)[:count])
