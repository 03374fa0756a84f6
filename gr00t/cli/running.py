"""What commands have in common: command line, log lines, questions, errors in one line, signals, status."""

from __future__ import annotations

import io
import os
import select
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from gr00t.cli.errors import UsageError
from gr00t.console import at_home, log_to_stderr
from gr00t.processes.ending import Ending, Stopped, say

ArgumentsT = TypeVar("ArgumentsT")

FAILED, MISUSED, INTERRUPTED = 1, 2, 128 + signal.SIGINT
# A pipe's reader that has read enough, as `head` does, ends a program of the system by this.
UNREAD = 128 + signal.SIGPIPE


def run_command(
    kind: Callable[..., ArgumentsT],
    action: Callable[[ArgumentsT], int | None],
    description: str | None,
    *,
    interrupted: str = "interrupted",
    heeds_signals: bool = False,
    logs: bool = True,
) -> int:
    """Read this process's command line and do what it says; return the exit status.

    Args:
        kind: dataclass of the flags.
        action: takes one; returns the status, None for 0.
        description: of the command, for its help.
        interrupted: see `run_program`.
        heeds_signals: see `run_program`.
        logs: see `run_program`.
    """
    return run_program(
        lambda: action(parse_command_line(kind, description)),
        interrupted=interrupted,
        heeds_signals=heeds_signals,
        logs=logs,
    )


def parse_command_line(
    kind: Callable[..., ArgumentsT], description: str | None, words: Sequence[str] | None = None
) -> ArgumentsT:
    """Read a command line, this process's unless `words` are given; help and wrong flags end the program."""
    import tyro  # of all that a command line needs it takes the most time

    given = sys.argv[1:] if words is None else words
    return tyro.cli(kind, prog=program_name(), description=description, args=at_home(given))


def program_name() -> str:
    """What this program was called by: `scripts/train.py`, `gr00t-train` or `python -m gr00t.cli.train`."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    called = Path(sys.argv[0])
    if spec is not None and spec.name.startswith("gr00t."):
        return f"python -m {spec.name}"
    return sys.argv[0] if called.suffix == ".py" else called.name


def run_program(
    action: Callable[[], int | None],
    *,
    interrupted: str = "interrupted",
    heeds_signals: bool = False,
    logs: bool = True,
) -> int:
    """Do something as a program does; return the exit status.

    It is what `action` returns, 2 for a `UsageError`, 1 for other errors that somebody foresaw, each told in
    one line, 130 after Ctrl-C and 141 where nobody reads the output to its end. Other errors pass through.

    Args:
        action: returns the status, None for 0.
        interrupted: what to say after a signal; nothing if it is empty.
        heeds_signals: end in order at SIGTERM and SIGHUP, too, with the status 128 and the signal's number.
        logs: send this project's log lines to stderr.
    """
    # First of all: a signal during the imports of a command is received in order, too.
    ending = Ending() if heeds_signals else None
    try:
        if logs:
            log_to_stderr()
        return _with_errors_told(action)
    except KeyboardInterrupt as stop:
        if interrupted:
            say(interrupted)
        return ending.status if ending is not None and isinstance(stop, Stopped) else INTERRUPTED
    finally:
        if ending is not None:
            ending.close()


def is_attended(environ: Mapping[str, str]) -> bool:
    """Whether somebody can be asked: there is a terminal, and it is none of a CI's."""
    return not environ.get("CI") and sys.stdin.isatty() and sys.stderr.isatty()


def confirmed(question: str) -> bool:
    """Ask on the terminal; Enter is yes, the end of the input is no."""
    print(f"{question} [Y/n] ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    return answer.strip().lower() in ("", "y", "yes") and answer != ""


def is_foreseen(error: Exception) -> bool:
    """Return whether an error was raised for people to read: a traceback would only hide what it says.

    These are errors of our own kinds, a plain ValueError that our own code raised, kinds of ValueError that
    say of somebody's file what is wrong with it, and the system's.
    """
    if isinstance(error, OSError) or type(error).__module__.startswith("gr00t."):
        return True
    if type(error) is not ValueError:
        return isinstance(error, ValueError)
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = trace.tb_frame.f_globals["__name__"] if trace else ""
    return where.startswith("gr00t.") or where == "__main__"


def _with_errors_told(action: Callable[[], int | None]) -> int:
    """Do it, with its errors told; return the status."""
    try:
        try:
            return action() or 0
        finally:
            # Here, where it can be told that nobody reads any more; Python's own end would make it an error.
            sys.stdout.flush()
    except BrokenPipeError as error:
        if _is_read():
            return _failed(error)
        return UNREAD
    except UsageError as error:
        say(f"error: {error}")
        return MISUSED
    except Exception as error:
        if not is_foreseen(error):
            raise
        return _failed(error)


def _failed(error: Exception) -> int:
    say(f"error: {error}")
    return FAILED


def _is_read() -> bool:
    """Whether somebody still reads the output; if not, what is left of it goes nowhere."""
    try:
        output = sys.stdout.fileno()
    except io.UnsupportedOperation:
        return True
    poll = select.poll()
    poll.register(output, 0)  # that the other end is gone is told without asking
    if not poll.poll(0):
        return True
    os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return False
