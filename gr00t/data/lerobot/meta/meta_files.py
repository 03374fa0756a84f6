"""The files of `meta/` as people and programs leave them: read where what they say is plain, else named.

Files get edited by hand and by Windows programs. A byte order mark, CRLF, blank lines and a comma too many
change nothing of what a file says; anything else that is not JSON is a fault with its line. Python's
writers put NaN for a number that is none: that passes here, and is refused where a number is needed.
"""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

from gr00t.data.lerobot.meta.faults import Fault
from gr00t.strict_json import parse_json

logger = logging.getLogger(__name__)

_POINTER = b"version https://git-lfs.github.com/spec/"
# A text, or a comma that nothing follows; texts are matched so that what is inside them stays as it is.
_TEXT_OR_LAST_COMMA = re.compile(r'("(?:[^"\\]|\\.)*")|,(?=\s*(?:[}\]]|\Z))')


def absent(path: Path, folder: Path) -> Fault | None:
    """Why a file of a data set cannot be read at all: it is missing, or its content is elsewhere.

    Args:
        path: of the file.
        folder: of the data set, for the command that helps.
    """
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            return Fault(path, "is no regular file")  # a pipe would be waited for
        with path.open("rb") as file:
            start = file.read(len(_POINTER))
    except FileNotFoundError:
        if path.is_symlink():
            target = path.readlink()
            helps = f"run `git annex get .` in {folder}" if "annex" in target.parts else "download it again"
            return Fault(path, f"is a link to {target}, which is not there", helps=helps)
        return Fault(path, "not found")
    except OSError as error:
        return Fault(path, f"cannot be read: {error.strerror}")
    except ValueError as error:  # no name of a file: a pattern may say anything
        return Fault(path, f"cannot be read: {error}")
    if start == _POINTER:
        return Fault(
            path, "is a Git LFS pointer, not the file itself", helps=f"run `git lfs pull` in {folder}"
        )
    if not start:
        return Fault(path, "is empty", helps="download it again") if path.suffix != ".jsonl" else None
    return None


def read_object(path: Path, folder: Path, faults: list[Fault]) -> dict[str, Any] | None:
    """The object that a .json file holds; None, and a fault, where it holds none."""
    text = _text(path, folder, faults)
    if text is None:
        return None
    try:
        content = _parse(text, str(path))
    except json.JSONDecodeError as error:
        faults.append(Fault(path, f"not JSON: {error.msg}", f"line {error.lineno}"))
        return None
    except ValueError as error:
        faults.append(Fault(path, f"not a JSON file: {error}"))
        return None
    if not isinstance(content, dict):
        faults.append(Fault(path, f"expected an object, got {type(content).__name__}"))
        return None
    return content


def read_lines(path: Path, folder: Path, faults: list[Fault]) -> list[tuple[int, dict[str, Any]]]:
    """The objects of a .jsonl file, each with the number of its line; lines that hold none are faults."""
    lines = []
    # Only a line feed ends a line: within a text JSON allows the other characters that Python splits at.
    for number, text in enumerate((_text(path, folder, faults) or "").split("\n"), start=1):
        stripped = text.strip()
        if not stripped:
            continue
        try:
            line = _parse(stripped, f"{path}, line {number}")
        except json.JSONDecodeError as error:
            faults.append(
                Fault(path, f"not JSON: {error.msg} at character {error.pos + 1}", f"line {number}")
            )
            continue
        except ValueError as error:
            faults.append(Fault(path, f"not JSON: {error}", f"line {number}"))
            continue
        if isinstance(line, dict):
            lines.append((number, line))
        else:
            faults.append(Fault(path, f"expected an object, got {type(line).__name__}", f"line {number}"))
    return lines


def whole_number(value: Any) -> int | None:
    """`value` as a whole number; 3.0, as programs write it that know only floats, is one, True is not."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if type(value) is int else None


def _text(path: Path, folder: Path, faults: list[Fault]) -> str | None:
    """The text of a file; Windows' and old Macs' ends of lines become line feeds."""
    fault = absent(path, folder)
    if fault is not None:
        faults.append(fault)
        return None
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        wide = error.object[:2] in (b"\xff\xfe", b"\xfe\xff")
        what = "not UTF-8 text but UTF-16" if wide else f"not UTF-8 text: {error}"
        faults.append(Fault(path, what, helps="save it as UTF-8"))
        return None


def _parse(text: str, where: str) -> Any:
    try:
        return parse_json(text, finite=False)
    except json.JSONDecodeError as error:
        mended = _TEXT_OR_LAST_COMMA.sub(lambda match: match[1] or "", text)
        if mended == text:
            raise
        try:
            content = parse_json(mended, finite=False)
        except ValueError:
            raise error from None
    logger.warning("%s: a comma after the last entry, which JSON does not have, is passed over", where)
    return content
