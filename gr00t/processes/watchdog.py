"""Runs a Python program that ends when the process that wanted it does, whatever ended that one.

    python watchdog.py PARENT PROGRAM [ARGUMENT...]      PROGRAM: a file, or -m MODULE, or -c CODE

A killed evaluation cannot end its simulators, policy servers and calibrations; a killed script cannot end its
server. So each runs behind this program, in the same process and as if it had been started without it.
A thread watches PARENT, the process id of whoever started it. Once that is gone the program is told (SIGTERM,
on which ours end in order) and ended by force if it is still there two seconds later.

PR_SET_PDEATHSIG would do the same without a thread, but is tied to the thread that started the child:
simulators are started by threads that end before them. Standard library only, and run by its path: it starts
in milliseconds.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time

_LOOK_SECONDS = 0.25
_PATIENCE_SECONDS = 2.0


def command() -> list[str]:
    """Return what stands before a program, in place of the interpreter, so that it ends with this process."""
    return [sys.executable, os.path.realpath(__file__), str(os.getpid())]


def watch(parent: int) -> None:
    """Start to watch `parent`; it is gone when this process has got another one."""

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_PATIENCE_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=look, daemon=True, name="watchdog").start()


def main(parent: int, program: list[str]) -> None:
    """Run `program`, at most as long as `parent` lives."""
    watch(parent)
    kind, *rest = program
    # Python put the folder of this file first; the program finds there what it would find without us.
    if sys.path and os.path.realpath(sys.path[0]) == os.path.dirname(os.path.realpath(__file__)):
        found_first = {"-m": os.getcwd(), "-c": ""}
        sys.path[0] = found_first[kind] if kind in found_first else os.path.dirname(os.path.realpath(kind))
    if kind == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = program
        runpy.run_path(kind, run_name="__main__")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
