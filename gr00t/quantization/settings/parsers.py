"""From the text of a variable to its value; a ValueError says what was expected. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

from gr00t.spelling import did_you_mean


def switch(text: str) -> bool:
    """1/0, true/false, yes/no, on/off."""
    words = {
        "1": True,
        "true": True,
        "yes": True,
        "on": True,
        "0": False,
        "false": False,
        "no": False,
        "off": False,
    }
    if text.strip().lower() not in words:
        raise ValueError("expected one of 1/0, true/false, yes/no, on/off")
    return words[text.strip().lower()]


def integer(low: int, high: int) -> Callable[[str], int]:
    """An integer in [low, high]."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[+-]?\d{1,18}", text.strip()) or not low <= int(text) <= high:
            raise ValueError(f"expected an integer in [{low}, {high}]")
        return int(text)

    return parse


def number(low: float, high: float) -> Callable[[str], float]:
    """A number in [low, high]; nan is none."""

    def parse(text: str) -> float:
        try:
            value = float(text if "_" not in text else "nan")  # Python would read 9_9 as 99
        except ValueError:
            value = float("nan")
        if not low <= value <= high:  # false for nan, too
            raise ValueError(f"expected a number in [{low:g}, {high:g}]")
        return value

    return parse


def bits(text: str) -> int | None:
    """2 to 8 bits; 16 or 0 is floating point, None."""
    if text.strip() in {"0", "16"}:
        return None
    if text.strip() not in {"2", "3", "4", "5", "6", "7", "8"}:
        raise ValueError("expected 2 to 8 bits, or 16 (or 0) for floating point")
    return int(text)


def bits_by_layer(text: str) -> tuple[tuple[str, int | None], ...]:
    """`LAYER:BITS,LAYER:BITS` as pairs, no layer twice."""
    found: dict[str, int | None] = {}
    for item in names(text):
        name, colon, value = (part.strip() for part in item.rpartition(":"))
        if name in found:
            raise ValueError(f"{name} is there twice; one of the two would have no effect")
        try:
            found[name] = bits(value)
        except ValueError:
            colon = ""
        if not colon or not name:
            raise ValueError(f"{item!r} is not LAYER:BITS with BITS 2 to 8, or 16 (or 0) for floating point")
    return tuple(found.items())


def names(text: str) -> tuple[str, ...]:
    """Comma-separated names."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def regex(text: str) -> re.Pattern[str]:
    """A regular expression."""
    try:
        return re.compile(text)
    except (re.error, OverflowError) as error:
        raise ValueError(f"not a regular expression: {error}") from None
    except RecursionError:
        raise ValueError("not a regular expression: nested too deeply") from None


def one_of(known: Sequence[str]) -> Callable[[str], str]:
    """One of the known names."""

    def parse(text: str) -> str:
        name = text.strip().lower()
        if name not in known:
            raise ValueError(did_you_mean(name, known))
        return name

    return parse


def choice(options: type[Enum]) -> Callable[[str], Any]:
    """A member of `options`, by its value."""

    def parse(text: str) -> Any:
        try:
            return options(text.strip().lower())
        except ValueError:
            raise ValueError(f"expected one of {', '.join(option.value for option in options)}") from None

    return parse
