"""A run over tasks and initial states: what is retried, counted, written and kept."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest

from gr00t.eval.libero.records import EpisodeRecord, RunFolder, summarize, summary_table, write_video
from gr00t.eval.libero.runner import EvalPlan, evaluate
from gr00t.eval.libero.suites import LiberoError, find_suite
from tests.libero.stubs import TASKS, StubPolicy, StubSimulator

LABELS: dict[str, Any] = {
    "assets": "stand-ins",
    "assets_fingerprint": "f00",
    "gl_backend": "osmesa",
    "quantized_layers": 116,
    "server": "tcp://localhost:5555",
    "versions": {"mujoco": "3"},
}


def plan(**changes: Any) -> EvalPlan:
    defaults: dict[str, Any] = {
        "suite": find_suite("object"),
        "tasks": TASKS[:2],
        "trials": 2,
        "max_steps": 20,
        "video": "none",
        "labels": LABELS,
    }
    return EvalPlan(**{**defaults, **changes})


def run(plan: EvalPlan, simulator: StubSimulator, folder: Path) -> list[EpisodeRecord]:
    return list(evaluate(plan, simulator, StubPolicy(), RunFolder(folder), progress_bar=False))


def read_lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "episodes.jsonl").read_text().splitlines()]


def test_every_episode_is_played_once_and_leaves_one_line(tmp_path: Path) -> None:
    simulator = StubSimulator({(0, 1): 5, (1, 0): 12}, {})
    records = run(plan(), simulator, tmp_path)
    lines = read_lines(tmp_path)
    outcomes = [(line["task"], line["init_state"], line["success"], line["steps"]) for line in lines]
    assert outcomes == [(0, 0, False, 20), (0, 1, True, 5), (1, 0, True, 12), (1, 1, False, 20)]
    assert simulator.opened == [0, 1]
    assert [field.name for field in fields(EpisodeRecord)] == list(lines[0])
    assert lines[0]["quantized_layers"] == 116
    assert lines[0]["queries"] == 3
    # The stub takes 10 ms per step, settling included, and per image.
    assert (lines[0]["simulator_ms_per_step"], lines[0]["render_ms_per_image"]) == (10.0, 10.0)
    summary = summarize(records)
    assert (summary["episodes"], summary["successes"], summary["simulator_errors"]) == (4, 2, 0)
    assert [task["success_rate"] for task in summary["tasks"]] == [0.5, 0.5]


def test_a_simulator_error_is_retried_once_with_a_new_simulator(tmp_path: Path) -> None:
    simulator = StubSimulator({(0, 1): 5}, {(0, 1): 1})
    records = run(plan(tasks=TASKS[:1]), simulator, tmp_path)
    assert [record.success for record in records] == [False, True]
    assert (records[1].retried, records[1].simulator_error) == (True, "GL went away")
    assert simulator.opened == [0, 0]
    assert simulator.closed == 1


def test_a_simulator_error_that_stays_is_counted_apart_from_failures(tmp_path: Path) -> None:
    simulator = StubSimulator({(0, 2): 5}, {(0, 1): 9})
    records = run(plan(tasks=TASKS[:1], trials=3), simulator, tmp_path)
    assert [record.success for record in records] == [False, None, True]
    assert simulator.failures[(0, 1)] == 7, "tried twice, no more"
    summary = summarize(records)
    assert (summary["episodes"], summary["successes"], summary["simulator_errors"]) == (2, 1, 1)
    assert summary["success_rate"] == 0.5
    assert read_lines(tmp_path)[1]["success"] is None
    assert summary_table(summary).splitlines()[-1].split() == ["all", "1/2", "50.0", "%", "1"]


def test_a_run_of_nothing_but_simulator_errors_has_no_success_rate(tmp_path: Path) -> None:
    simulator = StubSimulator({}, {(0, 0): 9})
    summary = summarize(run(plan(tasks=TASKS[:1], trials=1), simulator, tmp_path))
    assert summary["success_rate"] is None
    assert summary_table(summary).splitlines()[-1].split() == ["all", "0/0", "-", "1"]


def test_more_trials_than_initial_states_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        LiberoError, match=r"trials: 5 asked for, but libero_object task 0 has 4 initial states"
    ):
        run(plan(trials=5), StubSimulator({}, {}), tmp_path)


@pytest.mark.parametrize("name", ["trials", "replan_steps", "record_every", "max_steps"])
def test_counts_below_one_are_refused_by_name(name: str) -> None:
    with pytest.raises(LiberoError, match=rf"{name.replace('_', '-')}: expected a positive number, got 0"):
        plan(**{name: 0})


def test_episodes_of_an_earlier_run_are_not_added_to(tmp_path: Path) -> None:
    run(plan(), StubSimulator({}, {}), tmp_path)
    with pytest.raises(
        LiberoError, match="already holds the episodes of a run; name another --output folder"
    ):
        RunFolder(tmp_path)


@pytest.mark.parametrize(
    ("choice", "kept"),
    [
        ("all", ["task00_init00_failure.mp4", "task00_init01_success.mp4"]),
        ("failures", ["task00_init00_failure.mp4"]),
        ("none", []),
    ],
)
def test_videos_are_kept_as_asked(tmp_path: Path, choice: Any, kept: list[str]) -> None:
    records = run(plan(tasks=TASKS[:1], video=choice), StubSimulator({(0, 1): 6}, {}), tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*.mp4")) == kept
    assert [Path(record.video).name for record in records if record.video] == kept


def test_a_video_plays_the_frames_it_was_given(tmp_path: Path) -> None:
    frames = [np.full((64, 48, 3), level, np.uint8) for level in (0, 60, 120, 180, 240)]
    write_video(tmp_path / "a" / "v.mp4", frames, fps=10)
    reader = imageio_ffmpeg.read_frames(str(tmp_path / "a" / "v.mp4"))
    meta = next(reader)
    levels = [float(np.frombuffer(frame, np.uint8).mean()) for frame in reader]
    assert meta["size"] == (48, 64)
    assert meta["fps"] == 10.0
    # H.264 is lossy; flat grey frames come back within a level or two.
    np.testing.assert_allclose(levels, [0, 60, 120, 180, 240], atol=3)
