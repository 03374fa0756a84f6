"""A field of a settings class and its variable as one declaration. Standard library only."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple

from gr00t.quantization.settings import parsers


class Variable(NamedTuple):
    """How a field is set from outside."""

    suffix: str
    parse: Callable[[str], Any]
    meaning: str
    enables: bool  # whether setting it alone turns quantization on
    empty_is_unset: bool


def var(
    suffix: str,
    parse: Callable[[str], Any],
    default: Any,
    meaning: str,
    *,
    enables: bool = True,
    empty: bool = False,
) -> Any:
    """Declare a config field together with its environment variable."""
    return dataclasses.field(
        default=default, metadata={"variable": Variable(suffix, parse, meaning, enables, empty)}
    )


def as_text(value: Any) -> str:
    """Write a setting the way one would type it into a variable."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, re.Pattern):
        return value.pattern
    if isinstance(value, tuple):
        return ",".join(item if isinstance(item, str) else f"{item[0]}:{item[1] or 16}" for item in value)
    return str(value)


def typed(field: dataclasses.Field[Any], value: Any) -> str:
    """`as_text` of the value of one field; floating point is 16 bits."""
    return "16" if value is None and field.metadata["variable"].parse is parsers.bits else as_text(value)
