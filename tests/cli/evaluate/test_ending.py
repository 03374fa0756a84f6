"""Signals to an evaluation: one clean end. Oracle: exit status and output of a program that is stormed."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gr00t.cli import evaluate as program
from gr00t.eval.session import session
from gr00t.files.output_folder import unused_folder
from tests.shell import REPO, heed_signals

PROGRAM = """
import gc, sys, time
sys.path.insert(0, SCRIPTS)
from gr00t.processes.ending import Ending, Stopped, say
MORE
def main():
    ending = Ending()
    try:
        try:
            print("up", flush=True)
            WORK
        finally:
            time.sleep(0.4)
            print("in order", flush=True)
    except Stopped:
        say("interrupted")
        return ending.status
    finally:
        ending.close()
    return 0
status = main()
BEFORE_THE_END
sys.exit(status)
"""


def start(
    more: str = "", work: str = "time.sleep(60)", end: str = "", **options: object
) -> subprocess.Popen[str]:
    text = PROGRAM.replace("SCRIPTS", repr(str(REPO / "scripts"))).replace("MORE", more)
    program = subprocess.Popen(
        [sys.executable, "-c", text.replace("WORK", work).replace("BEFORE_THE_END", end)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **{"preexec_fn": heed_signals, **options},
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "up\n"
    return program


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_storm_is_one_end_with_the_status_of_its_first_signal(first: signal.Signals) -> None:
    program = start()
    order = random.Random(int(first))
    for number in [first] + [order.choice((signal.SIGINT, signal.SIGTERM, signal.SIGHUP)) for _ in range(40)]:
        if program.poll() is None:
            program.send_signal(number)
        time.sleep(0.02)
    said = program.communicate(timeout=10)
    assert (program.returncode, *said) == (128 + first, "in order\n", "interrupted\n")


def test_of_signals_that_wait_for_the_program_the_one_that_came_first_decides() -> None:
    # Python itself would hear of the lower number first, once the sum lets it.
    program = start(work="print('busy', flush=True); sum(range(60_000_000)); time.sleep(60)")
    assert program.stdout is not None
    assert program.stdout.readline() == "busy\n"
    for number in (signal.SIGTERM, signal.SIGINT):
        time.sleep(0.1)
        program.send_signal(number)
    said = program.communicate(timeout=20)
    assert (program.returncode, *said) == (143, "in order\n", "interrupted\n")


def test_a_signal_while_the_program_ends_by_itself_is_too_late_to_change_that() -> None:
    program = start(work="pass", end="print('done', flush=True); time.sleep(0.5)")
    assert program.stdout is not None
    assert [program.stdout.readline() for _ in range(2)] == ["in order\n", "done\n"]
    for _ in range(60):
        if program.poll() is None:
            program.send_signal(signal.SIGTERM)
        time.sleep(0.01)
    assert (program.wait(timeout=10), program.communicate()[1]) == (0, "")


def test_what_was_started_to_ignore_a_signal_goes_on_ignoring_it() -> None:
    program = start(work="time.sleep(1.0)", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    program.send_signal(signal.SIGHUP)
    assert program.wait(timeout=10) == 0
    assert program.communicate() == ("in order\n", "")


def test_a_signal_that_comes_while_an_object_is_removed_is_not_lost() -> None:
    # Python drops what is raised there, with a traceback.
    more = (
        "class Slow:\n    def __del__(self):\n        print('removing', flush=True)\n"
        "        while not sys.stdin.closed and time.sleep(0.01) is None: pass\n"
    )
    program = start(more=more, work="Slow(); time.sleep(60)")
    assert program.stdout is not None
    assert program.stdout.readline() == "removing\n"
    program.send_signal(signal.SIGTERM)
    said = program.communicate(timeout=10)
    assert (program.returncode, *said) == (143, "in order\n", "interrupted\n")


def test_an_end_that_does_not_come_is_not_waited_for_longer_than_need_be() -> None:
    program = start(
        more="import gr00t.processes.ending; gr00t.processes.ending._PATIENCE_SECONDS = 0.5",
        work="\n            try: time.sleep(60)\n            finally: time.sleep(60)",
    )
    program.send_signal(signal.SIGINT)
    assert program.wait(timeout=10) == 130
    program.communicate()


def test_a_terminal_that_is_gone_does_not_change_the_status(monkeypatch: pytest.MonkeyPatch) -> None:
    # What is printed stays in a buffer until Python's own end, which would turn it into a status of 120.
    monkeypatch.setitem(globals(), "PROGRAM", PROGRAM.replace('print("in order", flush=True)', "pass"))
    program = start(work="print('x' * 100); time.sleep(60)")
    assert program.stdout is not None
    assert program.stderr is not None
    program.stdout.close()
    program.stderr.close()
    program.send_signal(signal.SIGHUP)
    assert program.wait(timeout=10) == 129


def test_runs_of_the_same_second_get_folders_of_their_own(tmp_path: Path) -> None:
    barrier, found = threading.Barrier(8), []

    def claim() -> None:
        barrier.wait()
        with unused_folder(tmp_path / "runs" / "libero_object-20261130-120000", "--output") as path:
            found.append(path.name)
            (path / "plan.json").touch()

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    name = "libero_object-20261130-120000"
    assert sorted(found) == sorted([name, *(f"{name}-{count}" for count in range(2, 9))])
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == sorted(found)


def test_a_folder_that_nothing_came_into_is_gone_again(tmp_path: Path) -> None:
    with unused_folder(tmp_path / "runs" / "a", "--output") as path:
        assert path.is_dir()
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.parametrize(("lost", "status"), [(0, 0), (2, 3)])
def test_the_status_tells_of_lost_episodes(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    lost: int,
    status: int,
) -> None:
    summary = {"arms": {"a": {"simulator_errors": lost}, "b": {"simulator_errors": 0}}}
    monkeypatch.setattr(session, "run", lambda options, environ, tell, agree: summary)
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "--suite", "object"])
    assert program.evaluate() == status
    said = capsys.readouterr()
    assert said.out.count("\n") == 1
    assert ("2 episodes were lost to the simulator; the same command with --output" in said.err) == bool(lost)


def test_memory_that_is_short_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:

    def run(options: object, environ: object, tell: object, agree: object) -> None:
        raise MemoryError

    monkeypatch.setattr(session, "run", run)
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "--suite", "object"])
    assert program.evaluate() == 1
    assert capsys.readouterr().err.startswith("error: out of memory; what was played is kept")
