"""One JSON line per episode: what was played, under which conditions, and what came of it.

A line stands alone. Whatever changes a result is in it, so that tables can refuse to mix what does not belong
together, and two runs of the same arm can be compared to the last bit of their actions. Lines may have been
edited or damaged since they were written, so nothing is counted that no run could have written.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from gr00t.eval.rollout.record_parts import EpisodeConditions, EpisodeKey, EpisodeOutcome, EpisodeTiming
from gr00t.libero.tasks.suites import LiberoError
from gr00t.spelling import did_you_mean
from gr00t.strict_json import parse_json
from gr00t.validation import first_of

logger = logging.getLogger(__name__)

# Version of a line. Lines of a time before they told it are of the first one.
UNNAMED_SCHEMA = 1
SCHEMA = 3


_SINCE_3 = ("gripper_switches", "seam_jump", "actions")


class RecordError(LiberoError):
    """A line that is not an episode's record; the message names the file and the line."""


@dataclass(frozen=True)
class EpisodeRecord:
    """One line of `episodes.jsonl`: which episode, under what, with what outcome, in what time."""

    key: EpisodeKey
    conditions: EpisodeConditions
    outcome: EpisodeOutcome
    timing: EpisodeTiming

    @property
    def was_played(self) -> bool:
        """Whether it was played to its end, and not lost to the simulator."""
        return self.outcome.success is not None

    def to_line(self) -> dict[str, Any]:
        """The record as a line has it: the fields of all parts beside each other."""
        parts = (self.conditions, self.outcome, self.timing)
        return {**self.key._asdict(), **{name: value for part in parts for name, value in part}}

    @classmethod
    def from_line(cls, values: Mapping[str, Any]) -> EpisodeRecord:
        """Return the record that a line stands for.

        Raises:
            ValidationError: a field is not what it should be.
        """
        return cls(
            _KEY.validate_python({name: values[name] for name in EpisodeKey._fields}),
            _part_of(EpisodeConditions, values),
            _part_of(EpisodeOutcome, values),
            _part_of(EpisodeTiming, values),
        )

    def to_json(self) -> str:
        """The record as one line, without its line end."""
        return json.dumps({"schema": SCHEMA, **self.to_line()})

    @classmethod
    def from_json(cls, line: str, where: str = "record") -> EpisodeRecord:
        """Read what `to_json` wrote, now or before lines had a schema.

        Args:
            line: The text.
            where: File and line, for the message of an error.

        Raises:
            RecordError: if it is not JSON, not exactly these fields, or says what no episode can have been.
        """
        try:
            values = parse_json(line)
        except ValueError as error:
            raise RecordError(f"{where}: not JSON: {error}") from None
        if not isinstance(values, dict):
            raise RecordError(f"{where}: expected an object, got {type(values).__name__}")
        schema = values.pop("schema", UNNAMED_SCHEMA)
        if type(schema) is not int or not UNNAMED_SCHEMA <= schema <= SCHEMA:
            raise RecordError(
                f"{where}: schema {schema!r} is none that this version reads, {UNNAMED_SCHEMA} to {SCHEMA}"
            )
        if schema < SCHEMA:
            values = {**dict.fromkeys(_SINCE_3), **values}
        if schema == UNNAMED_SCHEMA:
            # The first of them had no identities either.
            values.setdefault("identity", None)
        unknown, missing = sorted(values.keys() - _FIELDS), sorted(_FIELDS - values.keys())
        if unknown or missing:
            said = [f"unknown field {name!r}, {did_you_mean(name, _FIELDS)}" for name in unknown[:1]]
            said += [f"missing {', '.join(missing)}"] if missing else []
            raise RecordError(f"{where}: not an episode's record: {'; '.join(said)}")
        try:
            record = cls.from_line(values)
        except ValidationError as error:
            raise RecordError(f"{where}: not an episode's record: {first_of(error)}") from None
        contradiction = _contradiction(record.conditions, record.outcome, record.timing)
        if contradiction:
            raise RecordError(f"{where}: no episode's record: {contradiction}")
        return record


_KEY: TypeAdapter[EpisodeKey] = TypeAdapter(EpisodeKey)
_FIELDS = {
    *EpisodeKey._fields,
    *(name for part in (EpisodeConditions, EpisodeOutcome, EpisodeTiming) for name in part.model_fields),
}
_PartT = TypeVar("_PartT", bound=BaseModel)


def _part_of(part: type[_PartT], values: Mapping[str, Any]) -> _PartT:
    return part.model_validate({name: values[name] for name in part.model_fields})


def _contradiction(
    conditions: EpisodeConditions, outcome: EpisodeOutcome, timing: EpisodeTiming
) -> str | None:
    """What in a record of the right types no episode can have been."""
    steps, queries, by_query = outcome.steps, outcome.queries, conditions.replan_steps
    times, error = len(timing.query_ms), outcome.simulator_error
    contradictions = {
        f"{steps} steps of at most {conditions.max_steps}": steps > conditions.max_steps,
        f"{queries} queries, but {times} times in query_ms": queries != times,
        # Controls ask nothing.
        f"{queries} queries for {steps} steps, {by_query} by query": queries
        not in (0, -(-steps // by_query)),
        "lost to the simulator (success null), but no simulator_error": outcome.success is None
        and error is None,
        f"retried {outcome.retried}, simulator_error {error!r}": outcome.retried != (error is not None),
    }
    return next((text for text, holds in contradictions.items() if holds), None)


def read_records(path: Path, plan: Mapping[str, Any] | None = None) -> list[EpisodeRecord]:
    """The records of a file, in the order of their end.

    A last line that is not ended is one that a kill cut off: dropped, with a warning. An episode that the
    simulator lost may have been played again later, and only then.

    Args:
        path: The file.
        plan: What the run plays, from `gr00t.eval.rollout.run_files.read_plan`; every record has to be of it.

    Raises:
        RecordError: for a line that is no record, an episode that was not planned, one that is there twice.
        OSError: if the file cannot be read.
    """
    if path.exists() and not path.is_file():
        raise RecordError(f"{path}: expected a file")  # a pipe would be waited for
    *lines, torn = path.read_bytes().split(b"\n")
    if torn:
        logger.warning("%s: the last line is not finished; it is left out", path)
    records: dict[EpisodeKey, EpisodeRecord] = {}
    for number, line in enumerate(lines, start=1):
        where = f"{path}:{number}"
        try:
            record = EpisodeRecord.from_json(line.decode("utf-8"), where)
        except UnicodeDecodeError as error:
            raise RecordError(f"{where}: not UTF-8: byte {error.start + 1} of the line") from None
        if plan is not None:
            _check_planned(record, plan, where)
        before = records.pop(record.key, None)
        if before is not None and before.was_played:
            raise RecordError(f"{where}: {record.key.arm}, {record.key.episode} is there twice")
        records[record.key] = record
    return list(records.values())


def _check_planned(record: EpisodeRecord, plan: Mapping[str, Any], where: str) -> None:
    """Refuse a record of another run: of another arm, task, state or seed, or played in another way."""
    told = record.to_line()
    if told["arm"] not in plan["arms"]:
        raise RecordError(
            f"{where}: arm {told['arm']!r} is not in plan.json; {did_you_mean(told['arm'], plan['arms'])}"
        )
    for name, choices in (("task", "tasks"), ("init_state", "init_states"), ("seed", "seeds")):
        if told[name] not in plan[choices]:
            raise RecordError(f"{where}: {name} {told[name]} is not in plan.json, {choices}")
    for name in sorted(_PLANNED & plan.keys()):
        if told[name] != plan[name]:
            raise RecordError(f"{where}: {name} is {told[name]!r}, but {plan[name]!r} in plan.json")


# What a plan says once and every record again.
_PLANNED = {
    "suite",
    "placement",
    "replan_steps",
    "max_steps",
    "assets",
    "assets_fingerprint",
    "rendering",
    "gl_backend",
}
