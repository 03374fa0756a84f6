"""Records as lines: what is written is what is read, and what cannot be read is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gr00t.eval.rollout.records import EpisodeRecord, RecordError, read_records

RECORD = EpisodeRecord.from_line(
    {
        "arm": "w4a8",
        "suite": "libero_object",
        "task": 3,
        "task_name": "pick_3",
        "language": "pick 3",
        "init_state": 7,
        "seed": 0,
        "success": True,
        "steps": 93,
        "lifted_wrong": "milk_1",
        "queries": 12,
        "simulator_error": None,
        "retried": False,
        "jerk": 0.125,
        "gripper_switches": 2,
        "seam_jump": 0.0625,
        "actions": "actions/w4a8/task03_init07_seed0.npy",
        "actions_hash": "00ff",
        "wall_seconds": 8.5,
        "query_ms": [40.1, 39.9] * 6,
        "simulator_ms_per_step": 7.25,
        "render_ms_per_image": 20.5,
        "video": None,
        "thumbnail": "thumbnails/w4a8/task03_init07.jpg",
        "replan_steps": 8,
        "max_steps": 280,
        "assets": "stand-ins",
        "assets_fingerprint": "f00",
        "rendering": "fast",
        "placement": "recorded",
        "gl_backend": "osmesa",
        "denoising_steps": 8,
        "quantized_layers": 116,
        "server": "tcp://localhost:5555",
        "versions": {"mujoco": "3"},
        "identity": "0a1b",
    }
)


def altered(record: EpisodeRecord, **changes: object) -> EpisodeRecord:
    return EpisodeRecord.from_line({**record.to_line(), **changes})


def test_a_record_survives_its_line() -> None:
    line = RECORD.to_json()
    assert "\n" not in line
    assert EpisodeRecord.from_json(line) == RECORD
    # Whole numbers are amounts, too.
    assert EpisodeRecord.from_json(changed(jerk=0)).outcome.jerk == 0.0
    assert RECORD.key == ("w4a8", "libero_object", 3, 7, 0)


def changed(drop: str = "", **changes: object) -> str:
    values = {"schema": 3, **RECORD.to_line(), **changes}
    values.pop(drop, None)
    return json.dumps(values)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "expected an object, got list"),
        (changed("jerk"), "missing jerk"),
        (changed("steps", step=3), r"unknown field 'step', did you mean steps\?; missing steps"),
        (changed(success=2), "success: input should be a valid boolean, got 2"),
        (changed(success=1), "success: input should be a valid boolean, got 1"),
        (changed(success="true"), "success: input should be a valid boolean, got 'true'"),
        (changed(query_ms=4.0), "query_ms: input should be a valid list"),
        (
            changed(query_ms=[*RECORD.timing.query_ms[1:], -1]),
            "query_ms.11: input should be greater than or equal to 0",
        ),
        (changed(query_ms=RECORD.timing.query_ms[1:]), "12 queries, but 11 times in query_ms"),
        (changed(queries=3, query_ms=[1.0] * 3), "3 queries for 93 steps, 8 by query"),
        (changed(steps=281), "281 steps of at most 280"),
        (changed(steps=-1), "steps: input should be greater than or equal to 0, got -1"),
        (changed(steps=93.0), "steps: input should be a valid integer, got 93.0"),
        (changed(steps=True), "steps: input should be a valid integer, got True"),
        (changed(steps="93"), "steps: input should be a valid integer, got '93'"),
        (changed(task=-1), "task: input should be greater than or equal to 0"),
        (changed(seed=None), "seed: input should be a valid integer, got None"),
        (changed(max_steps=0), "max_steps: input should be greater than or equal to 1"),
        (changed(wall_seconds=-0.5), "wall_seconds: input should be greater than or equal to 0"),
        (changed(wall_seconds=float("nan")), "NaN is no number of JSON"),
        (changed(jerk=1e300), r"jerk: input should be less than or equal to 1000000000, got 1e\+300"),
        (changed(steps=10**30), "steps: input should be "),
        (changed(jerk=float("inf")), "Infinity is no number of JSON"),
        (RECORD.to_json().replace("0.125", "1e999"), "1e999 is larger than any 64-bit number"),
        (RECORD.to_json().replace('"steps": 93', '"steps": 93, "steps": 12'), "two entries 'steps'"),
        (RECORD.to_json() + RECORD.to_json(), "not JSON: Extra data"),
        ("[" * 100_000, "not JSON: nested too deeply"),
        ("", "not JSON"),
        (changed(arm="../../x"), "arm: string should match pattern"),
        (changed(arm="a\n"), "arm: string should match pattern"),
        (changed(versions={"mujoco": 3}), "versions.mujoco: input should be a valid string, got 3"),
        (changed(versions=None), "versions: input should be"),
        (changed(identity=7), "identity: input should be a valid string, got 7"),
        (changed("identity"), "missing identity"),
        (changed("seam_jump"), "missing seam_jump"),
        (changed(gripper_switches=-1), "gripper_switches: input should be greater than or equal to 0"),
        (changed(schema=4), "schema 4 is none that this version reads, 1 to 3"),
        (changed(schema="2"), "schema '2' is none"),
        (changed(schema=True), "schema True is none"),
        (changed(success=None), "lost to the simulator .* but no simulator_error"),
        (changed(retried=True), "retried True, simulator_error None"),
    ],
)
def test_what_is_no_record_is_named_with_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "episodes.jsonl"
    path.write_text(f"{RECORD.to_json()}\n{line}\n")
    with pytest.raises(RecordError, match=rf"episodes\.jsonl:2: .*{message}"):
        read_records(path)


@pytest.mark.parametrize(
    "torn", [RECORD.to_json()[:-1].encode(), b"\0" * 700, '{"arm": "\u00e9'.encode()[:-1]]
)
def test_an_unfinished_last_line_is_not_read_and_this_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, torn: bytes
) -> None:
    path = tmp_path / "episodes.jsonl"
    path.write_bytes(RECORD.to_json().encode() + b"\n" + torn)
    assert read_records(path) == [RECORD]
    assert caplog.messages == [f"{path}: the last line is not finished; it is left out"]


def test_a_line_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl"
    path.write_bytes(RECORD.to_json().encode() + b'\n{"arm": "\xff"}\n')
    with pytest.raises(RecordError, match=r"episodes\.jsonl:2: not UTF-8: byte 10 of the line"):
        read_records(path)


def test_line_ends_of_other_systems_and_signs_that_look_like_some_are_read(tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl"
    other = altered(RECORD, init_state=8, language="pick\u2028up\u0085it")
    raw = json.dumps(other.to_line(), ensure_ascii=False)
    path.write_bytes(f"{RECORD.to_json()}\r\n{raw}\r\n".encode())
    assert read_records(path) == [RECORD, other]


def test_a_record_of_a_time_without_schema_or_identities_is_read() -> None:
    line = json.loads(RECORD.to_json())
    assert line.pop("schema") == 3
    assert EpisodeRecord.from_json(json.dumps(line)) == RECORD
    del line["identity"]
    assert EpisodeRecord.from_json(json.dumps(line)) == altered(RECORD, identity=None)


LOST = altered(RECORD, success=None, simulator_error="GL went away", retried=True)


def test_an_episode_that_was_lost_may_be_played_again_and_counts_once(tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl"
    path.write_text("".join(record.to_json() + "\n" for record in (LOST, LOST, RECORD)))
    assert read_records(path) == [RECORD]
    # Not the other way round: what was played stays.
    path.write_text(f"{RECORD.to_json()}\n{LOST.to_json()}\n")
    with pytest.raises(RecordError, match=r"jsonl:2: .* is there twice"):
        read_records(path)


PLAN = {
    "suite": "libero_object",
    "tasks": [3],
    "init_states": [7, 8],
    "seeds": [0],
    "arms": {"w4a8": {"kind": "recipe"}},
    "max_steps": 280,
    "assets": "stand-ins",
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": 4}, "task 4 is not in plan.json, tasks"),
        ({"init_state": 9}, "init_state 9 is not in plan.json, init_states"),
        ({"seed": 1}, "seed 1 is not in plan.json, seeds"),
        ({"arm": "w4a9"}, "arm 'w4a9' is not in plan.json; did you mean w4a8"),
        ({"suite": "libero_goal"}, "suite is 'libero_goal', but 'libero_object' in plan.json"),
        ({"max_steps": 300}, "max_steps is 300, but 280 in plan.json"),
        ({"assets": "hub"}, "assets is 'hub', but 'stand-ins' in plan.json"),
    ],
)
def test_a_record_of_another_run_is_not_counted(tmp_path: Path, changes: dict, message: str) -> None:
    path = tmp_path / "episodes.jsonl"
    foreign = altered(RECORD, **{"init_state": 8, **changes})
    path.write_text(f"{RECORD.to_json()}\n{foreign.to_json()}\n")
    with pytest.raises(RecordError, match=rf"episodes\.jsonl:2: {message}"):
        read_records(path, PLAN)


def test_an_episode_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl"
    path.write_text(2 * (RECORD.to_json() + "\n"))
    with pytest.raises(RecordError, match=r"jsonl:2: w4a8, libero_object task 3, initial state 7, seed 0 is"):
        read_records(path)
