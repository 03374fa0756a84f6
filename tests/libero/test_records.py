"""Records as lines: what is written is what is read, and what cannot be read is named."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from gr00t.eval.libero.records import EpisodeRecord, RecordError, read_records

RECORD = EpisodeRecord(
    arm="w4a8",
    suite="libero_object",
    task=3,
    task_name="pick_3",
    language="pick 3",
    init_state=7,
    seed=0,
    success=True,
    steps=93,
    lifted_wrong="milk_1",
    queries=12,
    simulator_error=None,
    retried=False,
    jerk=0.125,
    actions_hash="00ff",
    wall_seconds=8.5,
    query_ms=[40.1, 39.9],
    simulator_ms_per_step=7.25,
    render_ms_per_image=20.5,
    video=None,
    thumbnail="thumbnails/w4a8/task03_init07.jpg",
    replan_steps=8,
    max_steps=280,
    assets="stand-ins",
    assets_fingerprint="f00",
    rendering="fast",
    placement="recorded",
    gl_backend="osmesa",
    denoising_steps=8,
    quantized_layers=116,
    server="tcp://localhost:5555",
    versions={"mujoco": "3"},
)


def test_a_record_survives_its_line() -> None:
    line = RECORD.to_json()
    assert "\n" not in line
    assert EpisodeRecord.from_json(line) == RECORD
    assert RECORD.key == ("w4a8", "libero_object", 3, 7, 0)


def changed(drop: str = "", **changes: object) -> str:
    values = {**dataclasses.asdict(RECORD), **changes}
    values.pop(drop, None)
    return json.dumps(values)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "expected an object, got list"),
        (changed("jerk"), "missing jerk"),
        (changed("steps", step=3), r"unknown field 'step', did you mean steps\?; missing steps"),
        (changed(success=2), "success: true, false or null"),
        (changed(query_ms=4.0), "query_ms: a list"),
    ],
)
def test_what_is_no_record_is_named_with_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "episodes.jsonl"
    path.write_text(f"{RECORD.to_json()}\n{line}\n")
    with pytest.raises(RecordError, match=rf"episodes\.jsonl:2: .*{message}"):
        read_records(path)


def test_an_unfinished_last_line_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl"
    path.write_text(RECORD.to_json() + "\n" + RECORD.to_json()[:-1])
    assert read_records(path) == [RECORD]


def test_an_episode_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl"
    path.write_text(2 * (RECORD.to_json() + "\n"))
    with pytest.raises(RecordError, match=r"jsonl:2: w4a8, libero_object task 3, initial state 7, seed 0 is"):
        read_records(path)
