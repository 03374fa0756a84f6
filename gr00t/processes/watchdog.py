"""Runs a command and ends it when the one who wanted it is gone, whatever ended that one.

A killed evaluation cannot stop the policy server that it started; its end of a pipe closes all the same. So
a server runs as this program's child: at the end of its own input it terminates the child, and exits as the
child does. Should this program be killed itself, the system kills the child. Standard library only, and run
by its path: it starts in milliseconds and imports nothing else.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType

_PATIENCE_SECONDS = 10.0
# Whoever would want its last words is gone, too.
_PATIENCE_WITH_AN_ORPHAN_SECONDS = 1.5
_PR_SET_PDEATHSIG = 1


def kept(command: Sequence[str]) -> list[str]:
    """`command` as a child of this program; standard input is to be a pipe that nobody else holds."""
    return [sys.executable, "-I", os.path.realpath(__file__), *command]


def main(command: list[str]) -> int:
    """Run `command` until it ends or standard input does; return its exit status."""
    wanted_by = os.getppid()
    # No thread of ours runs yet, so a function may run between fork and exec. The death that counts is that
    # of the thread that forks: this one, which lives as long as the program.
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_ends_with(os.getpid()))

    def end() -> None:
        child.terminate()
        since = time.monotonic()
        while child.poll() is None:
            # Looked at again and again: a process that is killed closes its pipes before it is gone.
            orphaned = os.getppid() != wanted_by
            patience = _PATIENCE_WITH_AN_ORPHAN_SECONDS if orphaned else _PATIENCE_SECONDS
            if time.monotonic() > since + patience:
                child.kill()
                break
            time.sleep(0.05)

    def watch() -> None:
        # Not through sys.stdin: a thread inside its buffer crashes the interpreter when that ends.
        while os.read(0, 1):
            pass
        end()

    def told(number: int, frame: FrameType | None) -> None:
        threading.Thread(target=end, daemon=True).start()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, told)
    threading.Thread(target=watch, daemon=True).start()
    status = child.wait()
    return status if status >= 0 else 128 - status


def _ends_with(parent: int) -> Callable[[], None] | None:
    """What a child of `parent` does before it becomes its program: it asks to be killed with it."""
    if sys.platform != "linux":
        return None
    # Loaded before the fork: nothing may be loaded after it.
    prctl = ctypes.CDLL(None).prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(128 + signal.SIGKILL)

    return ask


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
