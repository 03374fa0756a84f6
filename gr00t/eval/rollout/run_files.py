"""`plan.json` and `arms/NAME.json` of a run folder, checked as they are read: they may have been edited."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, ValidationError, field_validator

from gr00t.eval.arms.checked import ArmName, Checked, Count, Positive
from gr00t.eval.arms.facts import ArmFacts, Kind
from gr00t.libero.tasks.suites import LiberoError
from gr00t.strict_json import parse_json
from gr00t.validation import first_of

_CheckedT = TypeVar("_CheckedT", bound=Checked)


class _PlannedArm(Checked):
    kind: Kind
    images: str = ""


class _Plan(Checked):
    suite: str
    tasks: list[Count] = Field(min_length=1)
    init_states: list[Count] = Field(min_length=1)
    seeds: list[Count] = Field(min_length=1)
    arms: dict[ArmName, _PlannedArm] = Field(min_length=1)
    placement: str = ""
    replan_steps: Positive = 1
    max_steps: Positive = 1

    @field_validator("tasks", "init_states", "seeds")
    @classmethod
    def _once(cls, values: list[int]) -> list[int]:
        for value in values:
            if values.count(value) > 1:
                raise ValueError(f"{value} is there twice")
        return values


def read_plan(path: Path) -> dict[str, Any]:
    """What `plan.json` says.

    Raises:
        LiberoError: naming the file and what is wrong in it.
        FileNotFoundError: there is none.
    """
    return _read(path, _Plan).told()


def read_arm(path: Path, name: str) -> ArmFacts:
    """What `arms/NAME.json` says.

    Raises:
        LiberoError, FileNotFoundError: as `read_plan`.
    """
    facts = _read(path, ArmFacts)
    if facts.name != name:
        raise LiberoError(f"{path}: name: expected {name!r}, got {facts.name!r}")
    return facts


def _read(path: Path, schema: type[_CheckedT]) -> _CheckedT:
    if path.exists() and not path.is_file():
        raise LiberoError(f"{path}: expected a file")  # a pipe would be waited for
    try:
        found = parse_json(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise LiberoError(f"{path}: not UTF-8: byte {error.start + 1}") from None
    except ValueError as error:
        raise LiberoError(f"{path}: not JSON: {error}") from None
    if not isinstance(found, dict):
        raise LiberoError(f"{path}: expected an object, got {type(found).__name__}")
    try:
        # Half a sign, which JSON can write and nothing can print.
        json.dumps(found, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise LiberoError(f"{path}: no text: {error.object[error.start : error.end]!r}") from None
    try:
        return schema.model_validate(found)
    except ValidationError as error:
        raise LiberoError(f"{path}: {first_of(error)}") from None
