"""What is wrong with a data set, all of it at once: thousands of files are not mended one run a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# More than these do not help the reader of an error; `find_faults` returns all.
_MOST_SHOWN = 20


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        file: or folder, in which it is.
        what: is wrong, and what was found.
        place: in the file: `line 3`, `row 7`, `episode 5`, `state.x`; empty for the whole.
        allowed: what is expected instead; empty where `what` says it.
        helps: what to do, a command where there is one.
    """

    file: Path
    what: str
    place: str = ""
    allowed: str = ""
    helps: str = ""

    def __str__(self) -> str:
        where = f"{self.file}, {self.place}" if self.place.startswith(("line", "row")) else str(self.file)
        inside = f"{self.place}: " if self.place and not self.place.startswith(("line", "row")) else ""
        more = "".join(f"; {text}" for text in (self.allowed, self.helps) if text)
        return f"{where}: {inside}{self.what}{more}"


class DatasetError(ValueError):
    """A folder that is not a data set, or that lacks something; the message names the file.

    Attributes:
        faults: everything that is wrong, where more than one thing was looked for.
    """

    def __init__(self, message: str, faults: Sequence[Fault] = ()) -> None:
        super().__init__(message)
        self.faults = tuple(faults)


def error_of(fault: Fault) -> DatasetError:
    """The error of a single fault."""
    return DatasetError(str(fault), [fault])


def raise_faults(folder: Path, faults: Sequence[Fault]) -> None:
    """Raise one error that lists everything; return where there is nothing to list.

    Raises:
        DatasetError: there is a fault.
    """
    if not faults:
        return
    if len(faults) == 1:
        raise error_of(faults[0])
    lines = [f"{folder}: {len(faults)} faults", *(f"  {fault}" for fault in faults[:_MOST_SHOWN])]
    if len(faults) > _MOST_SHOWN:
        lines.append(f"  ... and {len(faults) - _MOST_SHOWN} more")
    raise DatasetError("\n".join(lines), faults)
