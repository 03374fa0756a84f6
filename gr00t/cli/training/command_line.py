"""Reading a command line in which one thing may have two names and be said twice.

tyro parses it. Before that every flag gets its first name; values of a list that is given several times are
joined, as `--dataset-path A --dataset-path B`; a switch, `--tune-llm` or `--no-tune-llm`, gets its value; and
what is said twice must be the same, since else one of both would silently count.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Sequence
from typing import TypeVar

from gr00t.cli.errors import UsageError
from gr00t.cli.running import parse_command_line
from gr00t.cli.training.arguments import Switch, TrainArguments

ArgumentsT = TypeVar("ArgumentsT", bound=TrainArguments)


# The smallest numbers that mean something; None, where a flag may be left out, means something else.
_LEAST = {
    **dict.fromkeys(("steps", "stop_after", "batch_size", "gradient_accumulation_steps", "num_gpus"), 1),
    **dict.fromkeys(("save_every", "log_every"), 1),
    **dict.fromkeys(("save_total_limit", "lora_rank"), 0),
    **dict.fromkeys(("dataloader_num_workers", "dataloader_prefetch_factor"), 0),
}


def parse(kind: type[ArgumentsT], description: str | None, words: Sequence[str]) -> ArgumentsT:
    """Read a command line; ends the program with a message where it is wrong, as tyro does.

    Raises:
        ValueError: what is said does not make sense.
    """
    arguments = parse_command_line(kind, description, canonical(kind, words))
    for field, least in _LEAST.items():
        value = getattr(arguments, field)
        if value is not None and value < least:
            flags = [f"--{name}" for name, (first, *_) in _names(kind).items() if first == _flag(field)]
            raise UsageError(f"{' or '.join(flags)}: expected at least {least}, got {value}")
    arguments.check()
    return arguments


def canonical(kind: type[TrainArguments], words: Sequence[str]) -> list[str]:
    """The same command line with every flag once, under its first name.

    Raises:
        UsageError: one thing is said twice, and differently.
    """
    names = _names(kind)
    given: dict[str, list[str]] = {}
    said: dict[str, str] = {}
    rest: list[str] = []
    for spelled, values in _flags(words, rest):
        asked = spelled.removeprefix("--").replace("_", "-")
        plain = asked.removeprefix("no-")
        known = names.get(asked) or names.get(plain)
        name, repeats, is_switch = known or (asked, False, False)
        if is_switch and (asked != plain or not values):
            values = [str(asked == plain), *values]
        elif asked not in names:
            name = asked  # unknown, or --no- before what is no switch: tyro says so
        text = " ".join([spelled, *(values if not is_switch else [])])
        if name not in given:
            given[name], said[name] = values, text
        elif repeats:
            given[name] = [*given[name], *values]
        elif not _same(given[name], values):
            raise UsageError(f"{said[name]} and {text}: one thing in two ways; give one of them")
    return [*rest, *(word for name, values in given.items() for word in (f"--{name}", *values))]


def _flags(words: Sequence[str], rest: list[str]) -> list[tuple[str, list[str]]]:
    """Flags with their values; what stands before the first flag goes to `rest`."""
    found: list[tuple[str, list[str]]] = []
    for word in words:
        if word.startswith("--") and len(word) > 2:
            flag, equals, value = word.partition("=")
            found.append((flag, [value] if equals else []))
        elif found:
            found[-1][1].append(word)
        else:
            rest.append(word)
    return found


def _names(kind: type[TrainArguments]) -> dict[str, tuple[str, bool, bool]]:
    """By each name of a flag: its first name, whether it may be repeated, whether it is a switch."""
    hints = typing.get_type_hints(kind, include_extras=True)
    names = {}
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        first = _flag(field.name)
        aliases = [
            alias.removeprefix("--")
            for mark in getattr(hint, "__metadata__", ())
            for alias in getattr(mark, "aliases", None) or ()
        ]
        repeats = "..." in str(hint)  # a tuple of any length
        for name in (first, *aliases):
            names[name] = first, repeats, hint == Switch
    return names


def _flag(field: str) -> str:
    return field.replace("_", "-")


def _same(first: list[str], second: list[str]) -> bool:
    if first == second:
        return True
    try:
        return [float(value) for value in first] == [float(value) for value in second]
    except ValueError:
        return False
