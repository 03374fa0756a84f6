"""The same run on a local Ray cluster with two workers. Oracle: the records of a run without Ray."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from gr00t.eval.arms.server_process import PORT
from gr00t.eval.rollout import cluster
from gr00t.eval.rollout.agents import Expert, PolicyAgent, Replay
from gr00t.eval.rollout.cluster import ENABLE, ClusterError, RayPool
from gr00t.eval.rollout.pool import LocalPool
from gr00t.eval.rollout.record_parts import EpisodeKey
from gr00t.eval.rollout.records import EpisodeRecord, read_records
from gr00t.eval.rollout.run_folder import RunFolder
from gr00t.eval.rollout.runner import run_arm
from tests.eval.rollout import stub_cluster
from tests.eval.rollout.stubs import CONDITIONS, StubHost, asked, stub_plan

PLAN = stub_plan(trials=4)
ARMS = {"policy": {"kind": "recipe"}, "expert": {"kind": "expert"}, "replay": {"kind": "replay"}}
SAME = ("success", "steps", "queries", "actions_hash", "jerk", "thumbnail", "versions")


@pytest.fixture(scope="module")
def pool(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RayPool, Path]]:
    pytest.importorskip("ray", reason=f"Ray is not installed; run: {ENABLE}")
    orders = tmp_path_factory.mktemp("orders")
    before = signal.getsignal(signal.SIGTERM)
    pool = RayPool("local", partial(stub_cluster.make, orders), per_node=2, root=repo)
    assert signal.getsignal(signal.SIGTERM) is before, "Ray's handler ends a program with another status"
    yield pool, orders
    pool.close()


def played(folder: Path) -> dict[EpisodeKey, EpisodeRecord]:
    return {record.key: record for record in read_records(folder / "episodes.jsonl")}


def facts(record: EpisodeRecord) -> list[object]:
    told = record.to_line()
    return [told[name] for name in SAME]


def count_states(task: object) -> int:
    return 4


def test_two_workers_on_ray_play_what_one_machine_plays(
    pool: tuple[RayPool, Path], tmp_path: Path, repo: Path
) -> None:
    here = LocalPool([stub_cluster.make(tmp_path, "0")])
    with RunFolder(tmp_path / "here", asked(PLAN, **ARMS)) as folder:
        run_arm("policy", PLAN, here, partial(PolicyAgent, StubHost()), CONDITIONS, folder)
        run_arm("expert", PLAN, here, partial(Expert, 0.1), CONDITIONS, folder)
        run_arm("replay", PLAN, here, partial(Replay, count_states), CONDITIONS, folder)
    here.close()

    # A process that dies is replaced and its episode played again; one that dies twice is counted apart.
    ray_pool, orders = pool
    (orders / "die-0-2").write_text("1")
    (orders / "die-1-1").write_text("2")
    command = ["-m", "tests.eval.arms.stub_server", PORT]
    environ = {**os.environ, "PYTHONPATH": str(repo)}
    with (
        contextlib.ExitStack() as closing,
        RunFolder(tmp_path / "there", asked(PLAN, **ARMS)) as folder,
    ):
        host, described = ray_pool.start_servers(command, environ, tmp_path / "server.log", closing)
        assert described.report.told() == {"enabled": True, "layers_quantized": 116}
        run_arm("policy", PLAN, ray_pool, partial(PolicyAgent, host), CONDITIONS, folder)
        run_arm("expert", PLAN, ray_pool, partial(Expert, 0.1), CONDITIONS, folder)
        run_arm("replay", PLAN, ray_pool, partial(Replay, count_states), CONDITIONS, folder)

    expected, found = played(tmp_path / "here"), played(tmp_path / "there")
    assert found.keys() == expected.keys()
    assert len(found) == 24
    lost = EpisodeKey("policy", "libero_object", 1, 1, 0)
    assert not found[lost].was_played
    assert "its process died" in str(found[lost].outcome.simulator_error)
    for key in expected.keys() - {lost}:
        assert facts(found[key]) == facts(expected[key]), key
    # Two that were there from the start, and one for each death.
    assert len(list(orders.glob("process-*"))) >= 4


@pytest.mark.slow
def test_a_server_of_a_node_that_dies_is_started_again(
    pool: tuple[RayPool, Path], tmp_path: Path, repo: Path
) -> None:
    ray_pool, _ = pool
    code = (
        "import os, pathlib, runpy, sys; "
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid())); "
        "sys.argv = ['stub_server', sys.argv[1]]; "
        "runpy.run_module('tests.eval.arms.stub_server', run_name='__main__')"
    )
    environ = {**os.environ, "PYTHONPATH": str(repo)}
    with (
        contextlib.ExitStack() as closing,
        RunFolder(tmp_path / "run", asked(PLAN, **ARMS)) as folder,
    ):
        command = ["-c", code, PORT]
        host, _ = ray_pool.start_servers(command, environ, tmp_path / "server.log", closing)
        first = int((tmp_path / "pid").read_text())
        os.kill(first, signal.SIGKILL)
        run_arm("policy", PLAN, ray_pool, partial(PolicyAgent, host), CONDITIONS, folder)
        second = int((tmp_path / "pid").read_text())
    assert second != first
    assert len(played(tmp_path / "run")) == 8
    with pytest.raises(ProcessLookupError):
        os.kill(second, 0)


def test_without_ray_the_way_to_it_is_named(monkeypatch: pytest.MonkeyPatch, repo: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ClusterError, match=r"--cluster needs Ray; run: pip install -e '\.\[cluster\]'"):
        cluster.start_ray("local", repo)
