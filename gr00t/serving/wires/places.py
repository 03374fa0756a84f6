"""Where in a message a value stands, for an error that says more than what is wrong: under which key.

This file runs inside the simulator's process, too: Python 3.8, nothing but the standard library.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gr00t.serving.wires.outline import WireError

_MAX_LOOKED_AT = 100_000
_NAME_CHARACTERS = 60  # of a key


class Undecodable:
    """Stands in a decoded message for a value that could not be decoded."""

    def __init__(self, error: WireError) -> None:
        """Take what is wrong with it."""
        self.error = error


class Undecodables:
    """What could not be decoded in one message."""

    def __init__(self) -> None:
        """Begin with none."""
        self._found: list[Undecodable] = []

    def kept(self, decode: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Return `decode` with an Undecodable as its result where it raises a WireError."""

        def attempt(value: Any) -> Any:
            try:
                return decode(value)
            except WireError as error:
                self._found.append(Undecodable(error))
                return self._found[-1]

        return attempt

    def check(self, message: Any) -> None:
        """Raise the first WireError that was kept, with the place where it stands in the decoded message."""
        if self._found:
            first = self._found[0]
            where = write_place(_find(message, first))
            raise WireError(f"{where}: {first.error}" if where else str(first.error))


def fields_of(entries: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """Return the entries of a map, each of whose keys must be there once.

    Raises:
        WireError: one is there twice, and nobody knows which value is meant.
    """
    fields: dict[Any, Any] = {}
    for key, value in entries:
        if key in fields:
            raise WireError(f"a map has the key {str(key)[:_NAME_CHARACTERS]!r} twice")
        fields[key] = value
    return fields


def write_place(names: list[Any]) -> str:
    """Return keys, and numbers of list entries, as they are written in an error: `data: video.x[0]`."""
    written = [f"[{name}]" if isinstance(name, int) else f"{str(name)[:_NAME_CHARACTERS]}" for name in names]
    return ": ".join(written).replace(": [", "[")


def _find(message: Any, wanted: Undecodable) -> list[Any]:
    """Return the keys that lead to a value; none if it is not found among the first many."""
    left: list[tuple[Any, tuple[Any, ...]]] = [(message, ())]
    for _ in range(_MAX_LOOKED_AT):
        if not left:
            break
        value, names = left.pop()
        if value is wanted:
            return list(names)
        if isinstance(value, dict):
            left += [(inner, (*names, str(name))) for name, inner in value.items()]
        elif isinstance(value, list):
            left += [(inner, (*names, place)) for place, inner in enumerate(value[:_MAX_LOOKED_AT])]
    return []
