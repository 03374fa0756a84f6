"""kill -9 of an evaluation at any moment. Oracle: an undisturbed run's records, and the processes left.

What is played is a stub; what is killed is real: a process with a policy server and two simulators.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gr00t.eval.rollout.record_parts import EpisodeKey
from gr00t.eval.rollout.records import read_records
from tests.attacks import stub_processes
from tests.shell import REPO

EPISODES = 24
WITHIN_S = 5.0
TIMES = ("wall_seconds", "query_ms", "simulator_ms_per_step", "render_ms_per_image")


class Zygote:
    """Starts evaluations in milliseconds: all that has to be imported is."""

    def __init__(self) -> None:
        environ = {**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
        program = [sys.executable, str(REPO / "tests" / "attacks" / "stub_processes.py"), "zygote"]
        self.process = subprocess.Popen(
            program, cwd=REPO, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, folder: Path, seconds_per_step: float, mark: str) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{folder} {seconds_per_step} {mark}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def finish(self, folder: Path, mark: str) -> None:
        """Let an evaluation play to its end."""
        pid = self.start(folder, 0.0, mark)
        status = Path(f"{folder}-logs") / f"status-{pid}"
        wait_until(lambda: status.exists() and status.read_text() == "0", 60, f"{folder}: no end")

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture(scope="module")
def whole(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> dict[EpisodeKey, str]:
    """What an undisturbed evaluation leaves."""
    folder = tmp_path_factory.mktemp("undisturbed") / "whole"
    zygote.finish(folder, "whole")
    found = contents(folder)
    assert len(found) == EPISODES
    assert len({json.loads(text)["actions_hash"] for text in found.values()}) > EPISODES / 2
    return found


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    found = Zygote()
    yield found
    found.close()


def wait_until(holds: Callable[[], bool], seconds: float, otherwise: str) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.002)


def marked(mark: str) -> list[int]:
    """Processes that an evaluation of this mark started, by their environment."""
    wanted = f"{stub_processes.MARK}={mark}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if (
                wanted in (path / "environ").read_bytes().split(b"\0")
                and b"Z" not in (path / "stat").read_bytes().rsplit(b")", 1)[1].split()[0]
            ):
                found.append(int(path.name))
        except OSError:
            continue
    return found


def command_of(pid: int) -> list[str]:
    """The names of what a process runs, without their folders."""
    try:
        parts = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except OSError:
        return []
    return [Path(part).name for part in parts]


def lines_in(folder: Path) -> int:
    episodes = folder / "episodes.jsonl"
    return episodes.read_bytes().count(b"\n") if episodes.exists() else 0


def wait_for_lines(folder: Path, count: int, pid: int) -> None:
    """Wait until that many lines are there, or the evaluation `pid` has ended."""
    process = Path(f"/proc/{pid}")
    wait_until(lambda: lines_in(folder) >= count or not process.exists(), 120, f"{folder}: no episode")


def contents(folder: Path) -> dict[EpisodeKey, str]:
    """Every record without its times, as text."""
    lines = [json.loads(line) for line in (folder / "episodes.jsonl").read_text().splitlines()]
    records = read_records(folder / "episodes.jsonl")
    assert len(lines) == len(records), "doubled"
    return {
        record.key: json.dumps({name: value for name, value in line.items() if name not in TIMES})
        for record, line in zip(records, lines, strict=True)
    }


def disturb(zygote: Zygote, folder: Path, mark: str, moments: random.Random) -> tuple[int, float]:
    """Start an evaluation and kill it at some moment; return what it started, and how long that stayed."""
    before = lines_in(folder)
    pid = zygote.start(folder, 0.001, mark)
    if moments.random() < 0.25:
        time.sleep(moments.uniform(0, 0.5))  # while it starts what it needs
    else:
        wanted = min(EPISODES, before + moments.randrange(1, 5))
        wait_for_lines(folder, wanted, pid)
        time.sleep(moments.uniform(0, 0.05))
    with contextlib.suppress(ProcessLookupError):  # it may be done
        os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    started = len(marked(mark))
    while marked(mark) and time.monotonic() - killed < WITHIN_S:
        time.sleep(0.02)
    return started, time.monotonic() - killed


def test_a_killed_evaluation_loses_doubles_and_leaves_nothing(
    zygote: Zygote,
    whole: dict[EpisodeKey, str],
    tmp_path: Path,
    blows: Callable[[int, int], int],
    figure: Callable[[str], None],
) -> None:
    moments = random.Random(20261130)
    kills, runs, ended, longest = blows(20, 200), 0, 0, 0.0
    left: list[int] = []
    folder = tmp_path / "0"
    for kill in range(kills):
        started, seconds = disturb(zygote, folder, f"{folder.name}-{kill}", moments)
        ended, longest = ended + started, max(longest, seconds)
        left += marked(f"{folder.name}-{kill}")
        if lines_in(folder) >= EPISODES - 4 or kill == kills - 1:
            zygote.finish(folder, f"{folder.name}-end")
            assert contents(folder) == whole
            runs += 1
            folder = tmp_path / str(runs)
    figure(
        f"{kills} kills of {runs} evaluations: 0 of {runs * EPISODES} records missing or doubled, all "
        f"actions equal; {ended} processes orphaned, {len(left)} left, the last one after {longest:.1f} s"
    )
    assert left == []
    assert longest < WITHIN_S
    assert ended >= kills, "there was nothing to be left behind"


@pytest.mark.slow
def test_what_dies_under_an_evaluation_is_replaced_and_changes_no_action(
    zygote: Zygote,
    whole: dict[EpisodeKey, str],
    tmp_path: Path,
    blows: Callable[[int, int], int],
    figure: Callable[[str], None],
) -> None:
    """Server and simulators are killed one by one; the evaluation goes on, or is gone on with."""
    moments = random.Random(3)
    kills, runs, sessions = blows(6, 60), 0, 0
    marks: list[str] = []
    while kills:
        folder, pid = tmp_path / str(runs), 0
        runs += 1
        while lines_in(folder) < EPISODES - 2 and kills:
            if not Path(f"/proc/{pid}").exists():
                sessions += 1
                marks.append(f"{folder.name}-under-{sessions}")
                pid = zygote.start(folder, 0.003, marks[-1])
            wanted = lines_in(folder) + moments.randrange(1, 4)
            wait_for_lines(folder, wanted, pid)
            victims = {pid: command_of(pid) for pid in marked(marks[-1])}
            # Each kind in turn; the server is there while the policy plays.
            chosen = [
                pid
                for pid, command in victims.items()
                if "watchdog.py" in command and ("server" in command) == (kills % 2 == 0)
            ]
            if chosen:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(moments.choice(chosen), signal.SIGKILL)
                kills -= 1
        wait_for_lines(folder, EPISODES + 1, pid)
        zygote.finish(folder, f"{folder.name}-under-end")
        found = {
            record.key: (record.outcome.success, record.outcome.steps, record.outcome.actions_hash)
            for record in read_records(folder / "episodes.jsonl")
        }
        assert found == {
            key: tuple(json.loads(text)[name] for name in ("success", "steps", "actions_hash"))
            for key, text in whole.items()
        }
    deadline = time.monotonic() + WITHIN_S
    while (left := [pid for mark in marks for pid in marked(mark)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert left == []
    figure(
        f"{blows(6, 60)} of what {runs} evaluations had started was killed: all {runs * EPISODES} episodes "
        f"played, in {sessions} sessions and one to finish each, all actions equal, nothing left"
    )
