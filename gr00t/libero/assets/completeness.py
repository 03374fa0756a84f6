"""Whether an assets folder holds all that a suite's scenes are made from, and what these files are."""

from __future__ import annotations

import hashlib
import os
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from pathlib import Path

from gr00t.files.lfs_pointer import is_lfs_pointer
from gr00t.libero.assets.required import required_files
from gr00t.libero.tasks.suites import LiberoError


class AssetsError(LiberoError):
    """No usable assets; the message lists what was tried and what would help."""


def missing_files(folder: Path, suite: str) -> list[str]:
    """Files that `suite` needs and `folder` lacks: descriptions, and the meshes and textures they name."""
    needed = dict.fromkeys(_needed_files(folder, suite))
    return [_relative(path, folder) for path in needed if not path.is_file()]


def pointer_files(folder: Path, suite: str) -> list[str]:
    """Files that `suite` needs and of which `folder` has only a pointer of Git LFS."""
    needed = dict.fromkeys(_needed_files(folder, suite))
    return [_relative(path, folder) for path in needed if path.is_file() and is_lfs_pointer(path)]


def what_is_wrong(folder: Path, suite: str) -> str:
    """Why `folder` cannot be used for `suite`, as the end of a sentence about it; empty if it can.

    Raises:
        OSError: a file cannot be read.
    """
    if not folder.is_dir():
        return "is no folder"
    try:
        # First, since an archive or a clone of pointers lacks what its descriptions would name.
        if pointers := pointer_files(folder, suite):
            return f"has pointers of Git LFS for files: {_listed(pointers)}; run in it: git lfs pull"
        if missing := missing_files(folder, suite):
            return f"is not complete for {suite}: missing {_listed(missing)}"
    except ET.ParseError as error:
        return f"has a damaged description for {suite} ({error})"
    return ""


def fingerprint(folder: Path, suite: str) -> str:
    """Of every byte that a scene of the suite is made from: a flipped bit makes other assets of them."""
    digest = hashlib.sha256()
    for name in required_files(suite):
        digest.update((folder / name).read_bytes())
        for reference in _references(folder / name):
            content = hashlib.sha256(((folder / name).parent / reference).read_bytes()).hexdigest()
            digest.update(f"{reference} {content}\n".encode())
    return digest.hexdigest()[:12]


def _needed_files(folder: Path, suite: str) -> Iterator[Path]:
    """Descriptions, each followed by what it names if it is there to be read; some more than once."""
    for name in required_files(suite):
        path = folder / name
        yield path
        if path.is_file() and not is_lfs_pointer(path):
            # Written without dots, where two descriptions name one file.
            yield from (Path(os.path.normpath(path.parent / found)) for found in _references(path))


def _references(description: Path) -> list[str]:
    """Files that a description names. Floor and wall textures are left out: LIBERO replaces them by style."""
    return [
        element.attrib["file"]
        for element in ET.parse(description).getroot().iter()
        if "file" in element.attrib and element.get("name") not in ("texplane", "tex-wall")
    ]


def _relative(path: Path, folder: Path) -> str:
    resolved, root = path.resolve(), folder.resolve()
    return str(resolved.relative_to(root)) if resolved.is_relative_to(root) else str(path)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
