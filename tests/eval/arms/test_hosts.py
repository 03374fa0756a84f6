"""Policy servers that a run starts, restarts, waits for and ends. Oracle: the processes that there are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from gr00t.eval.arms.hosts import AddressHost, ServerChangedError, StartedHost
from gr00t.eval.arms.server_process import PORT, ServerEndedError, ServerProcess, free_port
from gr00t.eval.rollout.agents import PolicyAgent
from gr00t.eval.rollout.pool import LocalPool
from gr00t.eval.rollout.records import read_records
from gr00t.eval.rollout.run_folder import RunFolder
from gr00t.eval.rollout.runner import run_arm
from gr00t.serving.client import ExternalRobotInferenceClient, NoServerError
from tests.eval.rollout.stubs import CONDITIONS, StubSimulator, asked, stub_plan

SERVER = ["-m", "tests.eval.arms.stub_server"]


@pytest.fixture
def environ(repo: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(repo)}


@pytest.fixture
def started(environ: dict[str, str], tmp_path: Path) -> Iterator[StartedHost]:
    host = StartedHost(ServerProcess([*SERVER, PORT], environ, tmp_path / "server.log"))
    host.start()
    host.remember(host.describe())
    yield host
    host.close()


def children_of(pid: int) -> list[int]:
    """Process ids of the children of `pid` and of theirs."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
        except OSError:
            continue
        if lines.get("PPid") == str(pid) and "Z" not in lines["State"]:
            child = int(lines["Pid"])
            found += [child, *children_of(child)]
    return found


def server_pid(host: StartedHost) -> int:
    assert host.server._process is not None
    return host.server._process.pid


def gone(pid: int, within_s: float = 10.0) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if "Z" in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]:
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


def test_a_started_server_says_what_it_is_and_ends_with_its_host(started: StartedHost) -> None:
    assert started.describe().report.told() == {"enabled": True, "layers_quantized": 116}
    pid = server_pid(started)
    started.close()
    assert gone(pid)


def test_a_server_that_dies_in_the_middle_is_started_again_and_nothing_is_lost(
    started: StartedHost, tmp_path: Path
) -> None:
    first = server_pid(started)
    plan = stub_plan(trials=4)
    pool = LocalPool([StubSimulator({}, {}, step_seconds=0.001) for _ in range(2)])

    def kill_when_under_way() -> None:
        episodes = tmp_path / "run" / "episodes.jsonl"
        while not episodes.exists():
            time.sleep(0.005)
        os.kill(first, signal.SIGKILL)

    killer = threading.Thread(target=kill_when_under_way)
    killer.start()
    with RunFolder(tmp_path / "run", asked(plan)) as folder:
        run_arm("policy", plan, pool, partial(PolicyAgent, started), CONDITIONS, folder)
    killer.join()
    pool.close()
    records = read_records(tmp_path / "run" / "episodes.jsonl")
    assert len(records) == 8
    assert {(record.outcome.steps, record.outcome.queries, record.outcome.success) for record in records} == {
        (20, 3, False)
    }
    assert len({record.outcome.actions_hash for record in records}) == 1
    assert server_pid(started) != first


def test_a_server_that_does_not_come_up_is_reported_with_its_last_words(
    environ: dict[str, str], tmp_path: Path
) -> None:
    program = ["-c", "import sys; sys.exit('no weights here')", PORT]
    host = StartedHost(ServerProcess(program, environ, tmp_path / "server.log"))
    with pytest.raises(
        ServerEndedError, match=r"(?s)status 1 before it was ready; the end of .*no weights here"
    ):
        host.start()
    host.close()


def test_a_server_does_not_outlive_a_run_that_is_killed(
    environ: dict[str, str], tmp_path: Path, repo: Path
) -> None:
    program = (
        "import os, sys; from pathlib import Path; "
        "from gr00t.eval.arms.server_process import PORT, ServerProcess; "
        f"server = ServerProcess({SERVER!r} + [PORT], dict(os.environ), Path({str(tmp_path / 'log')!r})); "
        "server.start(); print('up', flush=True); sys.stdin.read()"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=repo,
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert run.stdout is not None
    assert run.stdin is not None
    assert run.stdout.readline() == "up\n"
    below = children_of(run.pid)
    assert len(below) == 1
    run.kill()
    run.wait()
    run.stdin.close()
    run.stdout.close()
    assert all(gone(pid) for pid in below)


def test_an_address_is_waited_for_and_refused_when_something_else_comes_back(
    environ: dict[str, str], repo: Path
) -> None:
    port = free_port()

    def serve(layers: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, *SERVER, str(port), str(layers)], cwd=repo, env=environ)

    server = serve(116)
    try:
        host = AddressHost("127.0.0.1", port, wait_s=30)
        host.start()
        host.remember(host.describe())
        with ExternalRobotInferenceClient("127.0.0.1", port) as client:
            host.confirm(client)
        server.kill()
        server.wait()
        server = serve(116)
        host.recover()
        server.kill()
        server.wait()
        server = serve(0)
        with pytest.raises(ServerChangedError, match="layers_quantized: 116 before, 0 now"):
            host.recover()
    finally:
        server.kill()
        server.wait()


def test_an_address_where_nobody_answers_is_given_up_in_time() -> None:
    port = free_port()
    with pytest.raises(NoServerError, match=rf"no server at tcp://127\.0\.0\.1:{port}: waited 0\.3 seconds"):
        AddressHost("127.0.0.1", port, wait_s=0.3).start()
