"""What a simulator's process runs, and what it refuses. Oracle: what the functions below return.

The process is the real one, but for MuJoCo (stub_worker.py).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gr00t.libero.simulator.process import SimulatorProcess
from gr00t.libero.simulator.simulator import LiberoSimulator, SimulatorError
from gr00t.processes import watchdog
from tests.shell import REPO


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[SimulatorProcess]:
    program = Path(__file__).with_name("stub_worker.py")
    monkeypatch.setattr(watchdog, "command", lambda: [sys.executable, str(program)])
    environ = {**os.environ, "PYTHONPATH": str(REPO)}
    simulator = SimulatorProcess(tmp_path, environ, tmp_path / "logs" / "simulator.log")
    simulator.start()
    yield simulator
    simulator.close()


def describe(simulator: LiberoSimulator, *args: int, **kwargs: int) -> tuple[str, int, Any, Any]:
    return type(simulator).__name__, os.getpid(), args, kwargs


def chatter(simulator: LiberoSimulator) -> str:
    """Prints where answers go, and reads where requests come from, as LIBERO does in a new installation."""
    sys.stdout.write("some words")
    os.write(1, b"and more")
    return sys.stdin.read() + os.read(0, 10).decode()


class HalfSent:
    """An answer whose process stops while it is written: the first part of it has arrived."""

    def __reduce__(self) -> tuple[Any, ...]:
        os.write(max(int(name) for name in os.listdir("/proc/self/fd") if _is_pipe(name)), b"\x80\x04")
        os.kill(os.getpid(), signal.SIGSTOP)
        return bytes, ()


def _is_pipe(descriptor: str) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}").startswith("pipe:")
    except FileNotFoundError:
        return False  # the one that listed the folder


def answer_by_half(simulator: LiberoSimulator) -> HalfSent:
    return HalfSent()


def test_a_function_of_any_module_runs_there_with_the_simulator(process: SimulatorProcess) -> None:
    assert process._child is not None
    expected = ("LiberoSimulator", process._child.pid, (1, 2), {"other": 3})
    assert process.run(describe, 1, 2, other=3) == expected


def test_a_module_that_only_this_program_finds_is_found_there(
    process: SimulatorProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "of_a_user").mkdir()
    (tmp_path / "of_a_user" / "new_use.py").write_text(
        "def twice(simulator, number):\n    return 2 * number\n"
    )
    monkeypatch.chdir(tmp_path)
    # Relative, as the empty entry is that stands for the current folder.
    monkeypatch.syspath_prepend("of_a_user")
    import new_use  # type: ignore[import-not-found]

    process.close()
    process.start()
    assert process.run(new_use.twice, 21) == 42


def test_what_libraries_print_or_ask_does_not_come_between(process: SimulatorProcess, tmp_path: Path) -> None:
    assert [process.run(chatter) for _ in range(2)] == ["", ""]
    said = (tmp_path / "logs" / "simulator.log").read_text()
    assert said.count("and more") == 2


def test_what_cannot_be_sent_is_refused_and_the_process_goes_on(
    process: SimulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    def local(simulator: LiberoSimulator) -> int:
        return 1

    expected = "expected a function at the top level of a module"
    with pytest.raises(
        TypeError, match=f"<lambda> of tests.libero.simulator.test_process cannot .*{expected}"
    ):
        process.run(lambda simulator: 1)
    with pytest.raises(TypeError, match=f"<locals>.local of .*{expected}"):
        process.run(local)
    # The start of such a request would be pickled well.
    with pytest.raises(TypeError, match=r"describe and its arguments cannot be sent .*lock"):
        process.run(describe, bytes(100_000), threading.Lock())  # type: ignore[arg-type]
    monkeypatch.setattr(describe, "__module__", "__main__")
    with pytest.raises(TypeError, match=f"describe of __main__ cannot .*{expected} that is not the program"):
        process.run(describe)
    monkeypatch.undo()
    assert process.run(chatter) == ""


def test_a_process_that_stops_within_its_answer_is_given_up(process: SimulatorProcess) -> None:
    process._timeout_s = 1.0
    with pytest.raises(SimulatorError, match=r"answer_by_half: no answer within 1 s"):
        process.run(answer_by_half)
    assert process._child is None


def test_a_process_that_stops_before_it_has_read_is_given_up(process: SimulatorProcess) -> None:
    assert process._child is not None
    process._timeout_s = 0.2
    process._child.send_signal(signal.SIGSTOP)
    with pytest.raises(SimulatorError, match=r"describe: no answer within 0.2 s"):
        process.run(describe, bytes(1_000_000))  # type: ignore[arg-type]  # more than a pipe holds
    assert process._child is None


def test_what_is_not_found_there_is_quoted(
    process: SimulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = type(sys)("nowhere")
    exec("def use(simulator):\n    pass", vars(module))
    monkeypatch.setitem(sys.modules, "nowhere", module)
    with pytest.raises(
        SimulatorError, match=r"use: ended with status 1: ModuleNotFoundError: No module named 'now"
    ):
        process.run(module.use)
    with pytest.raises(SimulatorError, match="the simulator is not running"):
        process.run(chatter)
