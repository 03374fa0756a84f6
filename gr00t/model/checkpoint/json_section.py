"""Reading a JSON object strictly: every complaint names the file and the dotted key."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, TypeVar

from gr00t.files.lfs_pointer import LFS_POINTER
from gr00t.spelling import did_you_mean
from gr00t.strict_json import parse_json

T = TypeVar("T", int, float, str, bool)

REQUIRED: Any = object()
_SHOWN_PATH = 300  # characters of one that is too long


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names the file and the key."""


class Section:
    """One JSON object and where it stands, e.g. `config.json: action_head_cfg`."""

    def __init__(self, file: str, values: dict[str, Any], path: str = "") -> None:
        self.file = file
        self.values = values
        self.path = path

    def error(self, key: str, problem: str) -> CheckpointError:
        """A CheckpointError about one key."""
        return CheckpointError(f"{self.file}: {self.path}{key} {problem}")

    def section(self, key: str) -> Section:
        """The object under `key`, which must be there."""
        values = self.values.get(key)
        if not isinstance(values, dict):
            raise self.error(key, f"must be an object, got {values!r}")
        return Section(self.file, values, f"{self.path}{key}.")

    def integer(self, key: str, default: int = REQUIRED, at_least: int = 1) -> int:
        """A whole number not below `at_least`."""
        value = self.values.get(key, default)
        if type(value) is not int or value < at_least:
            raise self.error(key, f"must be an integer >= {at_least}, got {_shown(value)}")
        return value

    def positive(self, key: str, default: float = REQUIRED) -> float:
        """A positive number."""
        value = self.values.get(key, default)
        if type(value) not in (int, float) or not 0 < value <= sys.float_info.max:
            raise self.error(key, f"must be a positive number, got {_shown(value)}")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.values.get(key, default)
        if type(value) is not bool:
            raise self.error(key, f"must be true or false, got {_shown(value)}")
        return value

    def text(self, key: str) -> str:
        """A text that is not empty."""
        value = self.values.get(key)
        if not isinstance(value, str) or not value:
            raise self.error(key, f"must be a text, got {_shown(value)}")
        return value

    def one_of(self, key: str, allowed: tuple[Any, ...], default: Any = REQUIRED) -> Any:
        """A value of which only the `allowed` ones are implemented here."""
        value = self.values.get(key, default)
        if value not in allowed:
            known = ", ".join(json.dumps(a) for a in allowed)
            absent = "" if key in self.values else " (absent, so the default of the reference holds)"
            raise self.error(key, f"= {_shown(value)}{absent} is not supported; supported: {known}")
        return value

    def only(self, allowed: Collection[str]) -> None:
        """Check that nothing else stands here than what is known."""
        for key in self.values:
            if key not in allowed:
                raise self.error(key, f"is not known here; {did_you_mean(key, allowed)}")

    def agrees(self, key: str, expected: int, because: str) -> None:
        """Check that `key`, where present, does not contradict a value given elsewhere."""
        if self.values.get(key, expected) != expected:
            raise self.error(key, f"= {_shown(self.values[key])}, but {because} is {expected}")


def is_there(path: Path) -> bool:
    """Whether a checkpoint has a file.

    Raises:
        CheckpointError: it has a link to a file that is not there, as half a download leaves, or its name
            cannot be one.
    """
    try:
        if path.is_symlink() and not path.exists():
            raise CheckpointError(
                f"{path} is a link to a file that is not there; download the checkpoint again"
            )
        return path.exists()
    except OSError as error:
        raise CheckpointError(f"{str(path)[:_SHOWN_PATH]}: cannot be read ({error.strerror})") from None


def refuse_special(path: Path) -> None:
    """Refuse what would never end, or never begin, to be read: a pipe, a socket, a device.

    Raises:
        CheckpointError: it is there, and neither a file nor a folder.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise CheckpointError(f"{path}: expected a file, it is a pipe, a socket or a device")


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in `path`.

    Raises:
        CheckpointError: there is no such file, or it does not hold a JSON object (`strict_json`).
    """
    refuse_special(path)
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        is_there(path)
        raise CheckpointError(f"{path}: no such file") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    if text.startswith(LFS_POINTER):
        raise CheckpointError(f"{path} is a pointer of Git LFS, not the file; run: git lfs pull")
    try:
        values = parse_json(text.decode("utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path}: not JSON ({error})") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: expected a JSON object, got {type(values).__name__}")
    return values


def listed(names: Sequence[str], most: int = 4) -> str:
    """Names for an error, of which the first `most` are written out."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _shown(value: Any) -> str:
    return "nothing" if value is REQUIRED else json.dumps(value)
