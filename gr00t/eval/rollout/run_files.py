"""`plan.json` and `arms/NAME.json` of a run folder, checked as they are read: they may have been edited."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from gr00t.eval.rollout.records import ArmName, Count, Positive
from gr00t.libero.tasks.suites import LiberoError
from gr00t.strict_json import parse_json
from gr00t.validation import first_of

Kind = Literal["recipe", "address", "zero", "replay", "expert"]


class _Checked(BaseModel):
    """More may stand there than is named: what a later version writes is no fault."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class _PlannedArm(_Checked):
    kind: Kind
    images: str = ""


class _Plan(_Checked):
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


class _Quantization(_Checked):
    enabled: bool = False
    layers: dict[str, dict[str, Any]] = {}
    layers_quantized: Count | None = None
    linear_bytes: Count | None = None
    linear_bytes_before: Count | None = None
    model_bytes: Count | None = None
    model_bytes_before: Count | None = None


class _Arm(_Checked):
    name: str
    kind: Kind
    identity: dict[str, Any] | None = None
    settings: dict[str, Any] | None = None
    checkpoint: dict[str, Any] | None = None
    calibration: dict[str, Any] | None = None
    denoising_steps: Positive | None = None
    quantized_layers: Count | None = None
    quantization: _Quantization | None = None
    server: str = ""
    server_info: dict[str, Any] | None = None


def read_plan(path: Path) -> dict[str, Any]:
    """What `plan.json` says.

    Raises:
        LiberoError: naming the file and what is wrong in it.
        FileNotFoundError: there is none.
    """
    return _read(path, _Plan)


def read_arm(path: Path, name: str) -> dict[str, Any]:
    """What `arms/NAME.json` says.

    Raises:
        LiberoError, FileNotFoundError: as `read_plan`.
    """
    facts = _read(path, _Arm)
    if facts["name"] != name:
        raise LiberoError(f"{path}: name: expected {name!r}, got {facts['name']!r}")
    return facts


def _read(path: Path, schema: type[BaseModel]) -> dict[str, Any]:
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
        schema.model_validate(found)
    except ValidationError as error:
        raise LiberoError(f"{path}: {first_of(error)}") from None
    return found
