"""What pydantic finds wrong, as one line for people."""

from __future__ import annotations

from pydantic import ValidationError

_SHOWN = 80  # characters of a value


def first_of(error: ValidationError) -> str:
    """What pydantic found first, with the field and what stands there."""
    found = error.errors(include_url=False)[0]
    shown = repr(found["input"])
    shown = shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 3]}..."
    message = found["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    return f"{'.'.join(map(str, found['loc']))}: {message}, got {shown}"
