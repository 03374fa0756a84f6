"""One JSON line per episode: what was played, under which conditions, and what came of it.

A line stands alone. Whatever changes a result is in it, so that tables can refuse to mix what does not belong
together, and two runs of the same arm can be compared to the last bit of their actions.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from gr00t.eval.libero.suites import LiberoError
from gr00t.spelling import did_you_mean


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
    """

    arm: str
    suite: str
    task: int
    task_name: str
    language: str
    init_state: int
    seed: int
    success: bool | None
    steps: int
    lifted_wrong: str | None
    queries: int
    simulator_error: str | None
    retried: bool
    jerk: float
    actions_hash: str | None
    wall_seconds: float
    query_ms: list[float]
    simulator_ms_per_step: float
    render_ms_per_image: float
    video: str | None
    thumbnail: str | None
    replan_steps: int
    max_steps: int
    assets: str
    assets_fingerprint: str
    rendering: str
    placement: str
    gl_backend: str
    denoising_steps: int | None
    quantized_layers: int | None
    server: str
    versions: dict[str, str]

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
            RecordError: if it is not JSON, or not exactly these fields.
        """
        try:
            values: Any = json.loads(line)
        except ValueError as error:
            raise RecordError(f"{where}: not JSON: {error}") from None
        if not isinstance(values, dict):
            raise RecordError(f"{where}: expected an object, got {type(values).__name__}")
        known = {field.name for field in fields(cls)}
        unknown, missing = sorted(values.keys() - known), sorted(known - values.keys())
        if unknown or missing:
            said = [f"unknown field {name!r}, {did_you_mean(name, known)}" for name in unknown[:1]]
            said += [f"missing {', '.join(missing)}"] if missing else []
            raise RecordError(f"{where}: not an episode's record: {'; '.join(said)}")
        if values["success"] not in (True, False, None) or not isinstance(values["query_ms"], list):
            raise RecordError(f"{where}: success: true, false or null, and query_ms: a list, are expected")
        return cls(**values)


def read_records(path: Path) -> list[EpisodeRecord]:
    """The records of a file, in its order. A last line that is not ended is one that a kill cut off: skipped.

    Raises:
        RecordError: for a line that is no record, or an episode that is there twice.
        OSError: if the file cannot be read.
    """
    *lines, _ = path.read_text(encoding="utf-8").split("\n")
    records: dict[EpisodeKey, EpisodeRecord] = {}
    for number, line in enumerate(lines, start=1):
        record = EpisodeRecord.from_json(line, f"{path}:{number}")
        if record.key in records:
            raise RecordError(
                f"{path}:{number}: {record.arm}, {record.suite} task {record.task}, initial state "
                f"{record.init_state}, seed {record.seed} is there twice"
            )
        records[record.key] = record
    return list(records.values())
