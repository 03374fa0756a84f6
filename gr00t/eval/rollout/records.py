"""One JSON line per episode: what was played, under which conditions, and what came of it.

A line stands alone. Whatever changes a result is in it, so that tables can refuse to mix what does not belong
together, and two runs of the same arm can be compared to the last bit of their actions. Lines may have been
edited or damaged since they were written, so nothing is counted that no run could have written.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from gr00t.libero.tasks.suites import LiberoError
from gr00t.spelling import did_you_mean
from gr00t.strict_json import parse_json
from gr00t.validation import first_of

logger = logging.getLogger(__name__)

Count = Annotated[int, Field(ge=0, le=2**53)]
Positive = Annotated[int, Field(ge=1, le=2**53)]
# Seconds, milliseconds or a length, all far below; what is larger would overflow in a sum.
Amount = Annotated[float, Field(ge=0, le=1e9)]
# It names files.
ArmName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\z", max_length=200)]


class EpisodeKey(NamedTuple):
    """What makes an episode the same one: a run holds each at most once."""

    arm: str
    suite: str
    task: int
    init_state: int
    seed: int


class RecordError(LiberoError):
    """A line that is not an episode's record; the message names the file and the line."""


@dataclass(frozen=True)
class EpisodeRecord:
    """One line of `episodes.jsonl`.

    Attributes:
        arm: Name of what acted; pairs are formed between arms, over all else that makes an episode.
        suite: LIBERO's suite.
        task: Number of the task in its suite.
        task_name: LIBERO's name of it.
        language: The instruction.
        init_state: Number of the recorded initial state.
        seed: Seed of the evaluation: of the fixtures' placement and of the policy's noise.
        success: None when the simulator failed twice: that is no failure of the robot.
        steps: Control steps until success or the limit.
        lifted_wrong: The first object lifted by 4 cm that the task does not speak of, None without any.
        queries: Requests to the policy.
        simulator_error: What the simulator said when it failed, also when the second attempt went well.
        retried: Whether there was a second attempt.
        jerk: Mean length of the second difference of the executed motions.
        actions_hash: Short SHA-256 of the executed actions; equal for two runs that did the very same.
        wall_seconds: Time that the episode took, retries included.
        query_ms: Milliseconds of each query, measured by the client, to 0.1 ms.
        simulator_ms_per_step: Mean of the physics.
        render_ms_per_image: Mean of the drawing.
        video: Path within the run's folder, or None.
        thumbnail: The last view of the agent's camera, likewise.
        replan_steps: Actions executed per query.
        max_steps: Steps after which the episode has failed.
        assets: Kind of the meshes and textures: `folder`, `installed`, `hub` or `stand-ins`.
        assets_fingerprint: Short hash of them.
        rendering: How images are drawn, `full` or a lighter way.
        placement: Where the initial states come from; `recorded` are LIBERO's own.
        gl_backend: Library that drew.
        denoising_steps: Of the policy, where known.
        quantized_layers: Of the policy, where known.
        server: Its address, or what stands in its place.
        versions: Of the packages that produced the episode.
        identity: Short hash of all that the arm was, `gr00t.serving.identity`; None in records of a time
            that had none.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    arm: ArmName
    suite: str
    task: Count
    task_name: str
    language: str
    init_state: Count
    seed: Count
    success: bool | None
    steps: Count
    lifted_wrong: str | None
    queries: Count
    simulator_error: str | None
    retried: bool
    jerk: Amount
    actions_hash: str | None
    wall_seconds: Amount
    query_ms: list[Amount]
    simulator_ms_per_step: Amount
    render_ms_per_image: Amount
    video: str | None
    thumbnail: str | None
    replan_steps: Positive
    max_steps: Positive
    assets: str
    assets_fingerprint: str
    rendering: str
    placement: str
    gl_backend: str
    denoising_steps: Positive | None
    quantized_layers: Count | None
    server: str
    versions: dict[str, str]
    identity: str | None = None

    @property
    def key(self) -> EpisodeKey:
        """What makes it this episode and no other."""
        return EpisodeKey(self.arm, self.suite, self.task, self.init_state, self.seed)

    def to_json(self) -> str:
        """The record as one line, without its line end."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str, where: str = "record") -> EpisodeRecord:
        """Read what `to_json` wrote.

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
        known = {field.name for field in fields(cls)}
        unknown, missing = sorted(values.keys() - known), sorted(known - values.keys() - {"identity"})
        if unknown or missing:
            said = [f"unknown field {name!r}, {did_you_mean(name, known)}" for name in unknown[:1]]
            said += [f"missing {', '.join(missing)}"] if missing else []
            raise RecordError(f"{where}: not an episode's record: {'; '.join(said)}")
        try:
            record = _SCHEMA.validate_json(line, strict=True)
        except ValidationError as error:
            raise RecordError(f"{where}: not an episode's record: {first_of(error)}") from None
        contradiction = _contradiction(record)
        if contradiction:
            raise RecordError(f"{where}: no episode's record: {contradiction}")
        return record


_SCHEMA = TypeAdapter(EpisodeRecord)


def _contradiction(record: EpisodeRecord) -> str | None:
    """What in a record of the right types no episode can have been."""
    chunks = -(-record.steps // record.replan_steps)
    contradictions = {
        f"{record.steps} steps of at most {record.max_steps}": record.steps > record.max_steps,
        f"{record.queries} queries, but {len(record.query_ms)} times in query_ms": record.queries
        != len(record.query_ms),
        # Controls ask nothing.
        f"{record.queries} queries for {record.steps} steps, {record.replan_steps} by query": record.queries
        not in (0, chunks),
        "lost to the simulator (success null), but no simulator_error": record.success is None
        and record.simulator_error is None,
        f"retried {record.retried}, simulator_error {record.simulator_error!r}": record.retried
        != (record.simulator_error is not None),
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
        if before is not None and before.success is not None:
            raise RecordError(
                f"{where}: {record.arm}, {record.suite} task {record.task}, initial state "
                f"{record.init_state}, seed {record.seed} is there twice"
            )
        records[record.key] = record
    return list(records.values())


def _check_planned(record: EpisodeRecord, plan: Mapping[str, Any], where: str) -> None:
    """Refuse a record of another run: of another arm, task, state or seed, or played in another way."""
    if record.arm not in plan["arms"]:
        raise RecordError(
            f"{where}: arm {record.arm!r} is not in plan.json; {did_you_mean(record.arm, plan['arms'])}"
        )
    for name, choices in (("task", "tasks"), ("init_state", "init_states"), ("seed", "seeds")):
        if getattr(record, name) not in plan[choices]:
            raise RecordError(f"{where}: {name} {getattr(record, name)} is not in plan.json, {choices}")
    for name in sorted(_PLANNED & plan.keys()):
        if getattr(record, name) != plan[name]:
            raise RecordError(
                f"{where}: {name} is {getattr(record, name)!r}, but {plan[name]!r} in plan.json"
            )


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
