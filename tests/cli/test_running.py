"""What all commands have in common. Oracles: the documented statuses, and what the system tells of `cat`."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from gr00t.cli.errors import UsageError
from gr00t.cli.running import is_foreseen, parse_command_line, program_name, run_program
from gr00t.quantization.settings.environment import DuQuantConfigError
from gr00t.serving.client import ServerError
from gr00t.serving.sockets.address import BindError
from tests.shell import REPO, heed_signals


def failing(module: str, kind: type[Exception], *arguments: Any) -> Exception:
    """Return an exception of `kind` as raised by code of `module`."""
    scope: dict[str, Any] = {"__name__": module, "kind": kind, "arguments": arguments or ("text",)}
    exec("def fail():\n    raise kind(*arguments)", scope)
    with pytest.raises(kind) as caught:
        scope["fail"]()
    return caught.value


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (failing("gr00t.model.policy", ValueError), True),
        (failing("gr00t.serving.server", BindError), True),
        (failing("elsewhere", DuQuantConfigError), True),
        (failing("elsewhere", ValueError), False),
        (failing("elsewhere", UnicodeDecodeError, "utf-8", b"\xff", 0, 1, "invalid"), True),
        (failing("elsewhere", PermissionError), True),
        (failing("gr00t.model.policy", RuntimeError), False),
        (failing("gr00t.model.policy", KeyError), False),
        (ServerError("x"), True),
        (ValueError("never raised"), False),
    ],
)
def test_message_or_traceback(error: Exception, expected: bool) -> None:
    assert is_foreseen(error) is expected


def raising(error: BaseException) -> Any:
    def action() -> int:
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (UsageError("--seed: no number"), 2, "error: --seed: no number\n"),
        (DuQuantConfigError("no such setting"), 1, "error: no such setting\n"),
        (FileNotFoundError(2, "No such file", "x"), 1, "error: [Errno 2] No such file: 'x'\n"),
        (BrokenPipeError("a simulator's"), 1, "error: a simulator's\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_an_error_is_one_line_and_a_status(
    error: BaseException, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_program(raising(error)) == status
    assert capsys.readouterr() == ("", said)


def test_the_status_is_what_the_command_says_and_a_surprise_passes_through() -> None:
    assert [run_program(lambda: None), run_program(lambda: 0), run_program(lambda: 3)] == [0, 0, 3]
    with pytest.raises(ZeroDivisionError):
        run_program(lambda: 1 // 0)


def run(program: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", f"from gr00t.cli.running import *\n{program}"],
        cwd=REPO,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_signals,
        **options,
    )


@pytest.mark.parametrize("action", ["print('x' * 100_000)", "print('x')", "sys.exit(print('x'))"])
def test_a_reader_that_goes_away_is_no_error(action: str) -> None:
    """As `cat big | head -1`: the system ends cat by the signal 13."""
    with run(f"sys.stdin.read()\nsys.exit(run_program(lambda: {action}))", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdin.close()
        assert process.wait(10) == 128 + signal.SIGPIPE
        assert process.stderr.read() == ""


@pytest.mark.parametrize(
    ("heeds", "number", "status"),
    [
        (True, signal.SIGTERM, 143),
        (True, signal.SIGHUP, 129),
        (True, signal.SIGINT, 130),
        (False, signal.SIGINT, 130),
        (False, signal.SIGTERM, -15),
    ],
)
def test_signals(heeds: bool, number: int, status: int) -> None:
    wait = "(print('on', flush=True), time.sleep(20))"
    program = f"import time\nsys.exit(run_program(lambda: {wait}, heeds_signals={heeds}))"
    with run(program) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "on\n"
        time.sleep(0.05)
        os.kill(process.pid, number)
        assert process.wait(10) == status
        assert process.stderr.read() == ("interrupted\n" if status > 0 else "")


@dataclasses.dataclass(frozen=True)
class Flags:
    folder: Path = Path()


def test_a_tilde_is_the_home_folder_in_both_spellings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/h")
    for words in (["--folder=~/a"], ["--folder", "~/a"]):
        assert parse_command_line(Flags, None, words) == Flags(Path("/h/a"))
    monkeypatch.setattr(sys, "argv", ["x", "--folder=~"])
    assert parse_command_line(Flags, None) == Flags(Path("/h"))


def test_a_command_calls_itself_as_it_was_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    for called, name in {
        "scripts/train.py": "scripts/train.py",
        "/a/.venv/bin/gr00t-train": "gr00t-train",
    }.items():
        monkeypatch.setattr(sys, "argv", [called])
        assert program_name() == name
    told = subprocess.run(
        [sys.executable, "-m", "gr00t.cli.serve", "--help"],
        cwd=REPO,
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.startswith("usage: python -m gr00t.cli.serve [-h] ")
