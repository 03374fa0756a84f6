"""What answers, by content: sources, data configuration, checkpoint, versions. Two that agree answer alike.

A name says little: a data configuration keeps its own when a number in it changes, a checkpoint's folder when
it is trained on, and code when it is edited. So a server tells the hashes of all these, and an evaluation
that is continued compares them with those of its first episodes.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from gr00t.files.hashing import hash_file

PACKAGE = Path(__file__).resolve().parents[1]
# They count what was played, judge without playing, look at data, train, or start what is hashed: none of it
# changes an answer.
_LEFT_OUT = (
    *("cli/", "eval/allocation/", "eval/drift/", "eval/report/", "eval/statistics/"),
    *("eval/takeovers/", "libero/datagen/", "training/"),
)
_SERVER_PROGRAM = ("cli/serve.py", "cli/serving/")
_SOURCES = (".py", ".cpp", ".hpp", ".json")
_THREADS = 8
_DIGITS = 16


def digest(value: Any) -> str:
    """Short SHA-256 of plain data, whatever the order of its entries."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def source_files() -> dict[str, str]:
    """Short hashes of every file of this package that can change an answer, by their names."""
    found = {}
    for path in sorted(PACKAGE.rglob("*")):
        name = path.relative_to(PACKAGE).as_posix()
        takes_part = name.startswith(_SERVER_PROGRAM) or not name.startswith(_LEFT_OUT)
        if path.suffix in _SOURCES and takes_part and path.is_file():
            found[f"{PACKAGE.name}/{name}"] = hash_file(path)[:_DIGITS]
    return found


def folder_hash(
    folder: Path, below: Iterable[str] = ("experiment_cfg",), known: Mapping[str, str] | None = None
) -> str | None:
    """SHA-256 over the files of a folder and of some folders in it; None where there are none.

    Hidden files and texts for people (.md) are left out, and what a training leaves in folders of its own.

    Args:
        folder: whose files are told.
        below: names of the folders in it.
        known: SHA-256 of files by their path in the folder, which are not read again.
    """
    folders = [folder, *(folder / name for name in below)]
    files = sorted(
        path
        for within in folders
        if within.is_dir()
        for path in within.iterdir()
        if path.is_file() and path.suffix != ".md" and not path.name.startswith(".")
    )
    return files_hash(folder, files, known)


def files_hash(folder: Path, files: Iterable[Path], known: Mapping[str, str] | None = None) -> str | None:
    """SHA-256 over names, relative to `folder`, and contents, unless `known`; None without files."""
    names = {path: path.relative_to(folder).as_posix() for path in files}
    if not names:
        return None
    hashes = dict(known or {})
    unread = [path for path, name in names.items() if name not in hashes]
    with ThreadPoolExecutor(_THREADS) as pool:  # hashing lets go of the interpreter's lock
        found = pool.map(hash_file, unread)
        hashes |= {names[path]: text for path, text in zip(unread, found, strict=True)}
    lines = [f"{name} {hashes[name]}\n" for name in names.values()]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def config_hash(data_config: Any) -> str:
    """Short hash of a data configuration: of what its pipeline consists of, and of the files that define it.

    Args:
        data_config: Has `modality_config()` and `transform()`.
    """
    pipeline, modalities = data_config.transform(), data_config.modality_config()
    classes = {*type(data_config).__mro__, *_classes(pipeline)}
    files = {file for cls in classes if (file := _own_file(cls))}
    told = [_plain(modalities), _plain(pipeline), *sorted(map(hash_file, files))]
    return digest(told)


def served_identity(
    model: Path,
    data_config: Any,
    tokenizer: str | None,
    device: str,
    more: Iterable[Path] = (),
    known: Mapping[str, str] | None = None,
) -> dict[str, str | None]:
    """What a policy server is, by content; plain data.

    Args:
        model: The checkpoint's folder.
        data_config: Its data configuration.
        tokenizer: A folder or hub id, where it is not the checkpoint's own.
        device: What computes; of several alike it does not matter which.
        more: Folders and files outside that folder which the model was read from, too.
        known: SHA-256 of files by their path in the checkpoint's folder: those that it was loaded from.
    """
    found = folder_hash(model, known=known)
    others = [folder_hash(path) if path.is_dir() else hash_file(path) for path in more]
    own = tokenizer is None or not Path(tokenizer).is_dir()
    return {
        "sources": digest(source_files()),
        "model": digest([found, *others]) if others else found,
        "data_config": config_hash(data_config),
        "tokenizer": tokenizer if own else folder_hash(Path(str(tokenizer)), ()),
        "device": device.partition(":")[0],
    }


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Installed versions, without importing anything."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _plain(value: Any) -> Any:
    """Nested data of a configuration as JSON takes it; objects by their class and what they hold."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(str(item) for item in value)
    if hasattr(value, "tolist"):  # an array
        return _plain(value.tolist())
    if isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
        return f"{value.__module__}.{value.__qualname__}"
    held = getattr(value, "__dict__", None)
    name = f"{type(value).__module__}.{type(value).__qualname__}"
    if not held:
        # What an object says of itself, without where it lies in memory.
        return [name, re.sub(r"0x[0-9a-f]+", "", repr(value))]
    return [name, {key: _plain(item) for key, item in sorted(held.items())}]


def _classes(value: Any) -> Iterator[type]:
    """Classes of a pipeline's steps, and of those within them."""
    yield from type(value).__mro__
    for step in getattr(value, "transforms", ()):
        yield from _classes(step)


def _own_file(cls: type) -> Path | None:
    """The file of a class, unless it is this package's, which is hashed as a whole, or an installed one's."""
    try:
        file = inspect.getsourcefile(cls)
    except TypeError:
        return None
    if file is None:
        return None
    path = Path(file).resolve()
    installed = "site-packages" in path.parts or path.is_relative_to(sysconfig.get_path("stdlib"))
    return None if installed or path.is_relative_to(PACKAGE) or not path.is_file() else path
