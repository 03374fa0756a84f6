"""A run over tasks and initial states: what is retried, counted and kept, and what kills do to it."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest

from gr00t.eval.rollout.agents import PolicyAgent, PolicyLostError
from gr00t.eval.rollout.episode import PolicyReplyError, noise_seed
from gr00t.eval.rollout.media import encode_thumbnail, encode_video
from gr00t.eval.rollout.plan import EvalPlan, check_not_calibrated_on
from gr00t.eval.rollout.pool import JobBoard, LocalPool
from gr00t.eval.rollout.progress import Progress, duration
from gr00t.eval.rollout.records import EpisodeRecord, read_records
from gr00t.eval.rollout.run_folder import RunFolder
from gr00t.eval.rollout.runner import SimulatorsFailError, jobs_left, run_arm
from gr00t.libero.tasks.suites import LiberoError
from tests.cli.evaluate import stub_evaluation
from tests.eval.rollout.stubs import CONDITIONS, TASKS, StubHost, StubSimulator, asked, stub_plan
from tests.eval.rollout.test_records import RECORD, altered


def play(
    folder: Path,
    *simulators: StubSimulator,
    plan: EvalPlan | None = None,
    host: StubHost | None = None,
    arm: str = "policy",
) -> list[EpisodeRecord]:
    plan = plan or stub_plan()
    pool = LocalPool(simulators)
    with RunFolder(folder, asked(plan)) as run:
        run_arm(arm, plan, pool, partial(PolicyAgent, host or StubHost()), CONDITIONS, run)
    pool.close()
    return read_records(folder / "episodes.jsonl")


def outcomes(records: list[EpisodeRecord]) -> list[tuple[int, int, bool | None, int]]:
    return sorted(
        (record.key.task, record.key.init_state, record.outcome.success, record.outcome.steps)
        for record in records
    )


def test_every_episode_is_played_once_and_leaves_one_line(tmp_path: Path) -> None:
    simulator = StubSimulator({(0, 1): 5, (1, 0): 12}, {})
    records = play(tmp_path, simulator)
    assert outcomes(records) == [(0, 0, False, 20), (0, 1, True, 5), (1, 0, True, 12), (1, 1, False, 20)]
    assert simulator.opened == [0, 1]
    first = records[0]
    assert (
        first.key.arm,
        first.conditions.quantized_layers,
        first.outcome.queries,
        len(first.timing.query_ms),
    ) == ("policy", 116, 3, 3)
    # The stub takes 10 ms per step, settling included, and per image.
    assert (first.timing.simulator_ms_per_step, first.timing.render_ms_per_image) == (10.0, 10.0)
    assert first.conditions.versions == {"gr00t": "1", "mujoco": "3", "robosuite": "1.4.0"}
    assert (tmp_path / first.outcome.thumbnail).read_bytes()[:2] == b"\xff\xd8"
    # The actions that were executed, as many as steps.
    assert first.outcome.actions is not None
    actions = np.load(tmp_path / first.outcome.actions)
    assert (actions.shape, actions.dtype) == ((first.outcome.steps, 7), np.float32)
    assert first.outcome.gripper_switches == 0


def test_a_wrong_object_that_was_lifted_on_the_way_is_in_the_line(tmp_path: Path) -> None:
    simulator = StubSimulator({(0, 1): 5, (1, 0): 12}, {})
    simulator.lifts = ("milk_1", 9)
    lifted = {(r.key.task, r.key.init_state): r.outcome.lifted_wrong for r in play(tmp_path, simulator)}
    # One episode ends before the ninth step; in the others chunks follow in which nothing more is told.
    assert lifted == {(0, 0): "milk_1", (0, 1): None, (1, 0): "milk_1", (1, 1): "milk_1"}


def test_the_plans_placement_reaches_every_simulator(tmp_path: Path) -> None:
    simulator = StubSimulator({}, {})
    play(tmp_path, simulator, plan=stub_plan(placement="wide"))
    assert simulator.placements == ["wide", "wide"]
    with pytest.raises(LiberoError, match="placement 'wider': did you mean wide"):
        stub_plan(placement="wider")


def test_a_simulator_error_is_retried_once_with_a_new_simulator(tmp_path: Path) -> None:
    simulator = StubSimulator({(0, 1): 5}, {(0, 1): 1})
    records = play(tmp_path, simulator, plan=stub_plan(tasks=tuple(TASKS[:1])))
    assert [record.outcome.success for record in records] == [False, True]
    assert (records[1].outcome.retried, records[1].outcome.simulator_error) == (True, "GL went away")
    assert (simulator.opened, simulator.closed) == ([0, 0], 2)  # once for the error, once at the end


def test_a_simulator_error_that_stays_is_counted_apart_from_failures(tmp_path: Path) -> None:
    simulator = StubSimulator({(0, 2): 5}, {(0, 1): 9})
    records = play(tmp_path, simulator, plan=stub_plan(tasks=tuple(TASKS[:1]), trials=3))
    assert [record.outcome.success for record in records] == [False, None, True]
    assert records[1].outcome.simulator_error == "GL went away"
    assert records[1].outcome.thumbnail is None
    assert simulator.failures[(0, 1)] == 7, "tried twice, no more"


@pytest.mark.parametrize("name", ["trials", "replan_steps", "record_every", "max_steps"])
def test_counts_below_one_are_refused_by_name(name: str) -> None:
    with pytest.raises(LiberoError, match=rf"{name.replace('_', '-')}: expected a positive number, got 0"):
        stub_plan(**{name: 0})


def test_states_of_a_calibration_are_not_evaluated() -> None:
    plan = stub_plan(init_offset=1)
    check_not_calibrated_on(plan, {0: [0, 3], 2: [1]}, "arm x")
    with pytest.raises(LiberoError, match="arm x was calibrated on initial state 2 of libero_object task 1"):
        check_not_calibrated_on(plan, {1: [49, 2]}, "arm x")


@pytest.mark.parametrize(
    ("choice", "kept"),
    [
        ("all", ["task00_init00_seed0_failure.mp4", "task00_init01_seed0_success.mp4"]),
        ("failures", ["task00_init00_seed0_failure.mp4"]),
        ("none", []),
    ],
)
def test_videos_are_kept_as_asked(tmp_path: Path, choice: Any, kept: list[str]) -> None:
    plan = stub_plan(tasks=tuple(TASKS[:1]), video=choice)
    records = play(tmp_path, StubSimulator({(0, 1): 6}, {}), plan=plan)
    assert sorted(path.name for path in (tmp_path / "videos").rglob("*.mp4")) == kept
    assert [Path(record.outcome.video).name for record in records if record.outcome.video] == kept


def test_a_video_plays_the_frames_it_was_given(tmp_path: Path) -> None:
    frames = [np.full((64, 48, 3), level, np.uint8) for level in (0, 60, 120, 180, 240)]
    (tmp_path / "v.mp4").write_bytes(encode_video(frames, fps=10))
    reader = imageio_ffmpeg.read_frames(str(tmp_path / "v.mp4"))
    meta = next(reader)
    levels = [float(np.frombuffer(frame, np.uint8).mean()) for frame in reader]
    assert meta["size"] == (48, 64)
    assert meta["fps"] == 10.0
    # H.264 is lossy; flat grey frames come back within a level or two.
    np.testing.assert_allclose(levels, [0, 60, 120, 180, 240], atol=3)


def test_a_thumbnail_is_small() -> None:
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    content = encode_thumbnail(noise)
    assert len(content) < 20_000  # noise is the worst case: measured 15 kB
    import io

    assert Image.open(io.BytesIO(content)).size == (128, 128)


# pairing


def test_all_arms_and_any_number_of_workers_meet_the_same_noise(tmp_path: Path) -> None:
    plan = stub_plan(tasks=tuple(TASKS), trials=4)
    expected = sorted(
        noise_seed(0, "libero_object", task, state, query)
        for task in range(3)
        for state in range(4)
        for query in range(3)
    )
    for arm, workers in (("a", 1), ("b", 3)):
        host = StubHost()
        play(
            tmp_path / arm,
            *(StubSimulator({}, {}) for _ in range(workers)),
            plan=plan,
            host=host,
            arm="policy",
        )
        assert sorted(host.policy.seeds) == expected
    hashes = [
        {
            record.key: record.outcome.actions_hash
            for record in read_records(tmp_path / arm / "episodes.jsonl")
        }
        for arm in "ab"
    ]
    assert hashes[0] == hashes[1]
    assert len(hashes[0]) == 12


# the board


def test_simulators_stay_with_their_tasks_and_share_what_is_left() -> None:
    board = JobBoard(stub_plan(tasks=tuple(TASKS), trials=4).jobs())
    taken: dict[str, list[tuple[int, int]]] = {"a": [], "b": []}
    task: dict[str, int | None] = {"a": None, "b": None}
    for who in "abababababab":
        job = board.take(who, task[who])
        assert job is not None
        task[who] = job.task.index
        taken[who].append((job.task.index, job.init_state))
    assert board.take("a", task["a"]) is None
    assert sorted(taken["a"] + taken["b"]) == [(i, s) for i in range(3) for s in range(4)]
    # Two tasks are played by one simulator each; the third is shared at the end.
    assert [index for index, _ in taken["a"]] == [0, 0, 0, 0, 2, 2]
    assert [index for index, _ in taken["b"]] == [1, 1, 1, 1, 2, 2]


# what goes wrong with policies


def test_an_episode_whose_policy_went_away_is_played_again(tmp_path: Path) -> None:
    # Four episodes of three queries; the second query of the second episode, and the first of its repetition.
    host = StubHost(losses=[4, 5])
    records = play(tmp_path, StubSimulator({}, {}), host=host)
    assert outcomes(records) == [(t, s, False, 20) for t in (0, 1) for s in (0, 1)]
    assert [record.outcome.queries for record in records] == [3] * 4
    assert not any(record.outcome.retried for record in records), "no fault of the simulator's"
    assert (host.recoveries, host.confirmed) == (2, 4)


def test_a_policy_that_is_lost_in_every_attempt_ends_the_run_and_nothing_is_lost(tmp_path: Path) -> None:
    with pytest.raises(PolicyLostError, match="the server went away"):
        play(tmp_path, StubSimulator({}, {}), host=StubHost(losses=range(6, 100)))
    assert [(r.key.task, r.key.init_state) for r in read_records(tmp_path / "episodes.jsonl")] == [
        (0, 0),
        (0, 1),
    ]
    assert len(play(tmp_path, StubSimulator({}, {}))) == 4


def test_an_answer_that_is_no_chunk_ends_the_run_with_its_own_error(tmp_path: Path) -> None:
    with pytest.raises(PolicyReplyError, match="--replan-steps 17: the policy answers with chunks of 16"):
        play(tmp_path, StubSimulator({}, {}), StubSimulator({}, {}), plan=stub_plan(replan_steps=17))


# kills

TIMES = ("wall_seconds", "query_ms", "simulator_ms_per_step", "render_ms_per_image")


def without_times(folder: Path) -> list[str]:
    lines = [json.loads(line) for line in (folder / "episodes.jsonl").read_text().splitlines()]
    return sorted(json.dumps({k: v for k, v in line.items() if k not in TIMES}) for line in lines)


def test_a_run_killed_at_any_moment_loses_and_doubles_nothing(tmp_path: Path, repo: Path) -> None:
    stub_evaluation.main(tmp_path / "whole")
    expected = without_times(tmp_path / "whole")
    assert len(expected) == 24

    command = [
        sys.executable,
        "-m",
        "tests.cli.evaluate.stub_evaluation",
        str(tmp_path / "killed"),
        "0.002",
    ]
    moments = random.Random(0)
    kills, counts = 0, [0]
    while kills < 6:
        process = subprocess.Popen(command, cwd=repo, env={**os.environ, "PYTHONPATH": str(repo)})
        episodes = tmp_path / "killed" / "episodes.jsonl"
        deadline = time.monotonic() + 30
        # Not before it has begun: starting Python takes longer than all that is to be disturbed.
        wanted = min(24, counts[-1] + moments.randrange(1, 6))
        while process.poll() is None and time.monotonic() < deadline:
            if episodes.exists() and episodes.read_bytes().count(b"\n") >= wanted:
                break
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.03))
        process.kill()
        process.wait()
        kills += 1
        counts.append(episodes.read_bytes().count(b"\n"))
        # What a kill inside a write leaves, which is too short to be hit by chance.
        with episodes.open("ab") as file:
            file.write(b'{"arm": "policy", "sui'[: moments.randrange(0, 22)])
    assert counts == sorted(counts)
    assert counts[1] < 24, "nothing was disturbed"
    stub_evaluation.main(tmp_path / "killed")
    assert without_times(tmp_path / "killed") == expected
    pictures = sorted(path.name for path in (tmp_path / "killed" / "thumbnails").rglob("*.jpg"))
    assert pictures == sorted(path.name for path in (tmp_path / "whole" / "thumbnails").rglob("*.jpg"))


def test_leaving_the_loop_ends_threads_that_wait_for_a_simulator(tmp_path: Path) -> None:
    class Endless(StubSimulator):
        killed = threading.Event()

        def run(self, *arguments: Any) -> Any:
            self.killed.wait(30)
            raise RuntimeError("killed")

        def kill(self) -> None:
            self.killed.set()

    simulators = [StubSimulator({}, {}), Endless({}, {})]
    plan = stub_plan()
    before = threading.active_count()
    episodes = LocalPool(simulators).play(
        plan.jobs(), partial(PolicyAgent, StubHost()), plan, "policy", CONDITIONS
    )
    next(episodes)
    started = time.monotonic()
    episodes.close()
    assert time.monotonic() - started < 5
    assert threading.active_count() == before


# progress


def test_progress_says_how_far_how_well_how_fast_and_how_long() -> None:
    now = [0.0]
    progress = Progress("w4a8", 10, left_elsewhere=30, clock=lambda: now[0])
    progress.count(RECORD, now=False)
    assert progress.line() == "w4a8: 1/10 episodes, 1/1 succeeded (100.0 %)"
    now[0] = 60.0
    progress.count(RECORD)
    failed = altered(RECORD, success=False)
    lost = altered(RECORD, success=None)
    progress.count(failed)
    progress.count(lost)
    assert progress.line() == (
        "w4a8: 4/10 episodes, 2/3 succeeded (66.7 %), 1 simulator errors, 180 episodes/h, 12 min left"
    )
    assert [duration(seconds) for seconds in (45, 1000, 12_000)] == ["45 s", "17 min", "3 h 20 min"]


# simulators that lose episodes


def test_lost_episodes_are_played_again_by_the_next_session_and_count_once(tmp_path: Path) -> None:
    plan = stub_plan(tasks=tuple(TASKS[:1]), trials=3)
    first = play(tmp_path, StubSimulator({(0, 2): 5}, {(0, 1): 2}), plan=plan)
    assert [record.outcome.success for record in first] == [False, None, True]
    healed = StubSimulator({(0, 1): 7, (0, 2): 5}, {})
    second = play(tmp_path, healed, plan=plan)
    assert outcomes(second) == [(0, 0, False, 20), (0, 1, True, 7), (0, 2, True, 5)]
    assert healed.opened == [0], "only what was lost"
    assert len((tmp_path / "episodes.jsonl").read_text().splitlines()) == 4
    assert play(tmp_path, StubSimulator({}, {}), plan=plan) == second


def test_what_was_lost_before_is_played_last(tmp_path: Path) -> None:
    plan = stub_plan(tasks=tuple(TASKS[:1]), trials=4)
    play(tmp_path, StubSimulator({}, {(0, 0): 9}), plan=stub_plan(tasks=tuple(TASKS[:1]), trials=2))
    with RunFolder(tmp_path, asked(plan)) as folder:
        assert [job.init_state for job in jobs_left("policy", plan, folder)] == [2, 3, 0]


@pytest.mark.parametrize("workers", [1, 2])
def test_several_losses_in_a_row_stop_the_run_before_they_burn_it(tmp_path: Path, workers: int) -> None:
    plan = stub_plan(tasks=tuple(TASKS), trials=4)
    always = {(task, state): 99 for task in range(3) for state in range(4)}
    broken = [StubSimulator({}, dict(always)) for _ in range(workers)]
    with pytest.raises(SimulatorsFailError) as stopped:
        play(tmp_path, *broken, plan=plan)
    assert "policy: 3 episodes in a row were lost to the simulator" in str(stopped.value)
    assert "GL went away" in str(stopped.value)
    assert "--workers" in str(stopped.value)
    assert len(read_records(tmp_path / "episodes.jsonl")) == 3
    records = play(tmp_path, StubSimulator({(0, 1): 5}, {}), plan=plan)
    assert [record.outcome.success for record in records].count(None) == 0
    assert len(records) == 12


def test_losses_that_are_not_in_a_row_do_not_stop_it(tmp_path: Path) -> None:
    plan = stub_plan(tasks=tuple(TASKS[:1]), trials=8)
    lossy = StubSimulator({}, {(0, state): 9 for state in (0, 1, 3, 4, 6, 7)})
    assert [r.outcome.success for r in play(tmp_path, lossy, plan=plan)].count(None) == 6


def test_a_machine_without_room_for_threads_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(
        LiberoError, match=r"no room for 2 simulators \(can't start new thread\); fewer --workers"
    ):
        play(tmp_path, StubSimulator({}, {}), StubSimulator({}, {}))
