"""kill -9 of whoever started something. Oracle: the processes that are left five seconds later."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gr00t.eval.arms import server_process
from tests.eval.arms.test_hosts import children_of, gone
from tests.shell import REPO

WITHIN_S = 5.0
# Says that it is up, and does not end when it is asked to.
STUBBORN = (
    "import os, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(60)"
)
POLITE = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(60)"


def run(program: str, *arguments: str | Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=REPO,
        env={**os.environ, "PYTHONPATH": str(REPO)},
        stdin=subprocess.DEVNULL,
    )


def number_in(path: Path) -> int:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if path.exists() and (text := path.read_text()):
            return int(text)
        time.sleep(0.02)
    raise AssertionError(f"{path} was not written")


def test_a_server_that_does_not_want_to_end_is_ended_by_force(tmp_path: Path) -> None:
    tied = server_process.start_tied(["-c", STUBBORN, str(tmp_path / "pid")], os.environ, None)
    number_in(tmp_path / "pid")
    server_process.end(tied, 0.3)
    assert tied.returncode == -signal.SIGKILL


@pytest.mark.parametrize("program", [POLITE, STUBBORN])
def test_a_tied_program_outlives_the_thread_that_started_it_but_not_the_process(
    tmp_path: Path, program: str
) -> None:
    parent = run(
        "import subprocess, sys, threading, time; from gr00t.processes import watchdog; "
        "start = lambda: subprocess.Popen([*watchdog.command(), '-c', *sys.argv[1:]]); "
        "thread = threading.Thread(target=start); thread.start(); thread.join(); time.sleep(60)",
        program,
        tmp_path / "pid",
    )
    child = number_in(tmp_path / "pid")
    time.sleep(0.7)
    assert not gone(child, 0.1), "it ended with the thread"
    parent.kill()
    parent.wait()
    assert gone(child, WITHIN_S)


def test_a_program_whose_starter_is_gone_already_does_not_begin_a_life_of_its_own(tmp_path: Path) -> None:
    watchdog = REPO / "gr00t" / "processes" / "watchdog.py"
    tied = subprocess.Popen([sys.executable, str(watchdog), "1", "-c", STUBBORN, str(tmp_path / "pid")])
    assert tied.wait(timeout=WITHIN_S) in (-signal.SIGTERM, -signal.SIGKILL)


def test_a_tied_program_finds_what_it_would_find_alone(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("told = 'beside'")
    program = tmp_path / "program.py"
    program.write_text(
        "import dataclasses, sys, beside\n"
        "@dataclasses.dataclass\nclass Named:\n    number: 'int' = 3\n"
        "if __name__ == '__main__':\n"
        "    print(sys.argv, sys.path[0], beside.told, Named.__module__, sys.modules['__main__'].Named())\n"
        "    sys.exit(7)\n"
    )
    alone = subprocess.run(
        [sys.executable, str(program), "a", "--b"], capture_output=True, text=True, check=False
    )
    # By path, as the module of a folder, and as text; the last two differ in what Python calls the program.
    tied = [sys.executable, str(REPO / "gr00t/processes/watchdog.py"), str(os.getpid())]
    found = subprocess.run([*tied, str(program), "a", "--b"], capture_output=True, text=True, check=False)
    assert (found.stdout, found.stderr, found.returncode) == (alone.stdout, "", 7)
    for arguments in (
        ["-m", "program", "a"],
        ["-c", "import sys, beside; print(sys.argv, sys.path[0])", "a"],
    ):
        alone, found = (
            subprocess.run([*start, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
            for start in ([sys.executable], tied)
        )
        assert (found.stdout, found.stderr) == (alone.stdout, alone.stderr)
        assert found.returncode == alone.returncode


BUSY_WORKER = """
import pickle, sys, time
pickle.dump({"mujoco": "3"}, sys.stdout.buffer)
sys.stdout.flush()
open("busy", "w").close()
time.sleep(60)
"""


def test_a_simulator_in_the_middle_of_a_long_request_ends_with_its_evaluation(tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text(BUSY_WORKER)
    parent = run(
        "import os, sys; from pathlib import Path; "
        "from gr00t.libero.simulator.process import SimulatorProcess; "
        "from gr00t.libero.simulator.simulator import LiberoSimulator; "
        "from gr00t.processes import watchdog; "
        "folder = Path(sys.argv[1]); tied = watchdog.command(); "
        # What is added is left unread by the program that stands here in the simulator's place.
        "watchdog.command = lambda: [*tied, str(folder / 'worker.py')]; "
        "process = SimulatorProcess(folder, dict(os.environ), folder / 'log'); process.start(); "
        "process.run(LiberoSimulator.view)",
        tmp_path,
    )
    deadline = time.monotonic() + 30
    while not (tmp_path / "busy").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    (simulator,) = children_of(parent.pid)
    parent.kill()
    parent.wait()
    assert gone(simulator, WITHIN_S)


CALIBRATION = """
import os, sys
from pathlib import Path
from types import SimpleNamespace as Stub
from gr00t.eval.session import preparation, servers
program, pid, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
servers.calibration_program = lambda *arguments: ["-c", program, pid]
servers.server_environ = lambda *arguments: dict(os.environ)
setup = Stub(
    folder=Stub(log_path=lambda kind, name: folder / "log"),
    options=None,
    plan=Stub(suite=None),
    simulators=Stub(backend=""),
    environ={},
)
preparation.ArmSetup._calibrated(setup, Stub(name="w4a8", recipe=Stub()), folder / "packs")
"""


@pytest.mark.parametrize("program", [POLITE, STUBBORN])
def test_a_calibration_ends_with_its_evaluation(tmp_path: Path, program: str) -> None:
    evaluation = run(CALIBRATION, program, tmp_path / "pid", tmp_path)
    calibration = number_in(tmp_path / "pid")
    evaluation.kill()
    evaluation.wait()
    assert gone(calibration, WITHIN_S)
