"""JSON as its standard has it: what Python's parser takes beyond that would pass silently.

Python reads NaN and Infinity, turns 1e999 into infinity and keeps the last of two entries of the same name. A
file that says such things was not meant to be read that way.
"""

from __future__ import annotations

import json
import math
from typing import Any


def parse_json(text: str | bytes, *, finite: bool = True) -> Any:
    """Return what `text` says.

    Args:
        text: the whole file; bytes are UTF-8.
        finite: False lets inf and nan pass to a caller who tells where in the file they are.

    Raises:
        ValueError: it is not JSON, an object names an entry twice, or a number is not finite.
    """
    numbers: dict[str, Any] = {"parse_constant": _refuse_constant, "parse_float": _finite} if finite else {}
    try:
        return json.loads(text, object_pairs_hook=_unique, **numbers)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits} is larger than any 64-bit number")
    return value


def _unique(entries: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for name, value in entries:
        if name in content:
            raise ValueError(f"an object has two entries {name!r}")
        content[name] = value
    return content
