"""scripts/bench/serving.py. Oracle: servers in this process, with a policy that doubles, and their counts."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest

from tests.serving.doubling_policy import DoublingPolicy, Number
from tests.serving.socket_helpers import serving
from tests.shell import REPO

SCRIPT = REPO / "scripts" / "bench" / "serving.py"


@pytest.fixture(scope="module")
def program() -> Iterator[ModuleType]:
    patch = pytest.MonkeyPatch()
    patch.syspath_prepend(str(SCRIPT.parent))
    spec = importlib.util.spec_from_file_location("bench_serving", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_serving"] = module
    spec.loader.exec_module(module)
    yield module
    patch.undo()


def test_every_answer_is_counted_once_and_checked(program: ModuleType) -> None:
    policies = {size: DoublingPolicy(seconds=0.005) for size in (8, 1)}
    arguments = program.Arguments(rounds=2, seconds=0.3, max_batch=8, lone=4)
    with (
        serving(policies[8], max_batch=8) as (_, port),
        serving(policies[1], max_batch=1) as (_, single_port),
    ):
        servers = {8: program.Server(port, os.getpid()), 1: program.Server(single_port, os.getpid())}
        row = program.measure(arguments, servers, clients=3)
        lone = program.alternate(arguments, servers)
    assert row["deviation"] == 0.0
    for size in servers:
        found = row[f"max_batch_{size}"]
        assert found["lost"] == 0
        assert found["answers"] > 3
        assert sum(count * int(batch) for batch, count in found["batches"].items()) == found["answers"]
        assert found["p50_ms"] <= found["p95_ms"] <= found["p99_ms"]
    assert set(row["max_batch_1"]["batches"]) == {1}
    assert max(row["max_batch_8"]["batches"]) > 1
    assert lone["batched_ms"] > 5
    assert lone["ratio"] == pytest.approx(1, abs=0.9)


def test_an_answer_that_is_not_ones_own_and_an_error_show(
    program: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    class Wrong(DoublingPolicy):
        def get_actions(self, requests):
            if len(self.batches) % 2:
                self.batches.append([])
                raise ValueError("no")
            return [{"action.x": reply["action.x"] + 1} for reply in super().get_actions(requests)]

    expected = [{"action.x": 2 * program.example(number)["state.x"]} for number in range(2)]
    with serving(Wrong(0.01), max_batch=1) as (_, port):
        turn, off = program.load(program.Arguments(), program.Server(port, os.getpid()), expected, 0.2)
    assert off == pytest.approx(1)
    assert turn.lost > 0
    assert "lost: Server error: no" in capsys.readouterr().err


def test_summary_shows_the_commonest_batches(program: ModuleType) -> None:
    assert program.show({16: 6, 1: 3, 2: 1}) == "mean 10.1 (16: 60 %, 1: 30 %, 2: 10 %)"
    turns = [program.Turn(2.0, [float(n) for n in range(1, 101)], 0, {16: 6, 1: 4}, 1.0)] * 2
    summary = program.summary(turns)
    assert (summary["per_second"], summary["cpu_ms"], summary["answers"]) == (50.0, 10.0, 200)
    assert summary["p95_ms"] == pytest.approx(np.percentile(turns[0].latencies_ms, 95), abs=0.6)
    assert summary["batches"] == {1: 8, 16: 12}


class Counting(DoublingPolicy):
    """Takes so many seconds for each observation of a request, and counts them."""

    def prepare(self, observations, *, seeds=None):
        return Number(0.0, samples=len(observations["state.x"]))

    def get_actions(self, requests):
        self.batches.append([request.samples for request in requests])
        time.sleep(self.seconds * sum(self.batches[-1]))
        return [{"action.x": np.zeros((request.samples, 1))} for request in requests]


def test_two_precisions_answer_in_turns_and_batches_that_do_not_fit_are_named(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Oracle: servers that take 30 and 15 ms for each observation, and memory that is told."""
    part = sys.modules["serving_parts.precisions"]
    policies = {part.BASE: Counting(0.03), part.QUANTIZED: Counting(0.015)}
    peaks = iter([4, 2, 5, 3])  # GB, of both servers after each batch: one more each
    monkeypatch.setattr(program.Server, "peak_bytes", lambda self: next(peaks) * 10**9)
    monkeypatch.setattr(part, "available_bytes", lambda: 8 * 10**9)
    with (
        serving(policies[part.BASE], max_batch=16) as (_, port),
        serving(policies[part.QUANTIZED], max_batch=16) as (_, other),
    ):
        servers = {part.BASE: program.Server(port, os.getpid()), part.QUANTIZED: program.Server(other, 0)}
        rows = list(part.measure_batches(servers, (1, 2, 6), rounds=3, seconds=0.2))
    assert [row["batch"] for row in rows] == [1, 2, 6]
    for row in rows[:2]:
        # A request takes longer than its answers' sleep; never shorter.
        assert 3 < row["per_second"][part.BASE] < 1 / 0.03
        assert row["throughput_ratio"] == pytest.approx(2, abs=0.8)
    # Two GB for one observation more, so eight for four, and one is left to others.
    assert rows[2] == {"batch": 6, "left_out": "needs some 8.0 GB more, of 8.0 GB available"}
    assert {size for (size,) in policies[part.BASE].batches} == {1, 2}
    part.print_precisions(rows, "cpu")
    *text, last = capsys.readouterr().out.splitlines()
    assert json.loads(last)["rows"] == rows
    assert text[-1].split() == f"6 left out: {rows[2]['left_out']}".split()
    assert text[2].split()[:2] == ["1", f"{rows[0]['per_second'][part.BASE]:.3f}"]


def test_observations_together_are_what_a_policy_takes_as_a_batch(program: ModuleType) -> None:
    part = sys.modules["serving_parts.precisions"]
    together = part.together([program.example(number) for number in range(3)])
    assert together["video.image"].shape == (3, 1, 256, 256, 3)
    assert together["state.gripper"].shape == (3, 1, 2)
    assert len(together["annotation.human.action.task_description"]) == 3
    np.testing.assert_array_equal(together["state.x"][2], program.example(2)["state.x"])


@pytest.mark.slow
def test_the_program_serves_a_small_checkpoint_both_ways() -> None:
    flags = ["--clients", "4", "--rounds", "1", "--seconds", "1", "--lone", "5", "--dtype", "float32"]
    run = subprocess.run(
        [sys.executable, str(SCRIPT), *flags],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(REPO)},
        check=False,
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    row = found["rows"][0]
    assert (row["max_batch_16"]["lost"], row["max_batch_1"]["lost"]) == (0, 0)
    assert row["deviation"] < 1e-4
