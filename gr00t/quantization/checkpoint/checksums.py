"""SHA-256 hashes of the files that an artefact consists of: computed when it is exported, checked when it is
loaded. Imports no torch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from gr00t.files.hashing import hash_file
from gr00t.files.safetensors_header import Header, parse_header

# What is read of a checkpoint's folder: weights, their index, configurations, a tokenizer, statistics.
_READ = (".json", ".safetensors", ".txt", ".model", ".jinja")
_METADATA = "experiment_cfg"
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


def checksum(path: Path) -> dict[str, Any]:
    """Return size and SHA-256 of a file, for `check_files`."""
    return {"bytes": path.stat().st_size, "sha256": hash_file(path)}


def check_files(
    folder: Path,
    files: Mapping[str, Mapping[str, Any]],
    also: str,
    hash_of: Callable[[Path], str] = hash_file,
) -> int:
    """Read every file of an artefact and compare it with what was exported; return how many bytes that were.

    Args:
        folder: of the artefact.
        files: size and SHA-256 by path in the folder.
        also: the one that `files` comes from.
        hash_of: as `hash_file`; whoever keeps what was read gives one of their own.

    Raises:
        ArtefactError: files are missing, truncated, changed, outside the folder, or there although nothing is
            said of them; every one of them is named.
    """

    def fault(name: str) -> str | None:
        path = folder / name
        try:
            if _leads_away(folder, path):
                return "leads out of the folder"
            if not path.is_file():
                return "missing"
            if path.stat().st_size != files[name]["bytes"]:
                return f"{path.stat().st_size} bytes, exported were {files[name]['bytes']}"
            return None if hash_of(path) == files[name]["sha256"] else "changed since it was exported"
        except (OSError, MemoryError, ArtefactError) as error:
            return f"cannot be read ({error})"

    faults: dict[str, str | None] = dict.fromkeys(
        _unknown(folder, {*files, also}), "was not exported, but is of a kind that is read"
    )
    with ThreadPoolExecutor(_THREADS) as pool:  # hashing lets go of the interpreter's lock
        faults |= dict(zip(files, pool.map(fault, files), strict=True))
    wrong = [f"{name}: {found}" for name, found in faults.items() if found]
    if wrong:
        raise ArtefactError(f"{folder}: the artefact is damaged\n  " + "\n  ".join(wrong))
    return sum(entry["bytes"] for entry in files.values())


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


def _unknown(folder: Path, known: set[str]) -> list[str]:
    """Files that a loader would read, or might one day, of which nothing is said."""
    beside = [path for path in folder.iterdir() if path.suffix.lower() in _READ]
    beside += (folder / _METADATA).glob("*")
    names = (path.relative_to(folder).as_posix() for path in beside if not path.name.startswith("."))
    return sorted(name for name in names if name not in known)
