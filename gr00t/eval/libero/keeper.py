"""Runs a command and ends it when the one who wanted it is gone, whatever ended that one.

A killed evaluation cannot stop the policy server that it started; its end of a pipe closes all the same. So
a server runs as this program's child: at the end of its own input it terminates the child, and exits as the
child does. Standard library only, and run by its path: it starts in milliseconds and imports nothing else.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from types import FrameType

_PATIENCE_SECONDS = 10.0


def main(command: list[str]) -> int:
    """Run `command` until it ends or standard input does; return its exit status."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def end(number: int = 0, frame: FrameType | None = None) -> None:
        child.terminate()

    def watch() -> None:
        # Not through sys.stdin: a thread inside its buffer crashes the interpreter when that ends.
        while os.read(0, 1):
            pass
        child.terminate()
        try:
            child.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    threading.Thread(target=watch, daemon=True).start()
    status = child.wait()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
