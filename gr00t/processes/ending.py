"""How a program is stopped from outside: once, in order, with the status that tells by what.

The first signal raises `Stopped` in the main thread, which ends what runs and writes down what there is.
Those that follow must not cut this short, so they do nothing. Should the end not come, the program is ended
without it: what it started ends with it. Standard library only, so that it is in force before anything else
is imported.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PATIENCE_SECONDS = 30.0


class Stopped(KeyboardInterrupt):
    """A signal asked the program to end."""


def say(text: str) -> None:
    """Tell the user, if the terminal is still there."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


class Ending:
    """Receives the signals of this process from construction to `close`; made in the main thread."""

    def __init__(self) -> None:
        self._number: int | None = None
        self._is_told = False
        # Python runs the handlers of signals that wait by their numbers; here they stand as they came.
        self._came, arrivals = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(arrivals, warn_on_full_buffer=False)
        self._told = threading.Event()
        threading.Thread(target=self._insist, daemon=True, name="ending").start()
        sys.unraisablehook = self._unraisable
        for number in _SIGNALS:
            # Who was started with nohup, or in the background, is not to hear of it.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._receive)

    @property
    def status(self) -> int:
        """The exit status: 128 and the signal's number, or 0 without one."""
        return 0 if self._number is None else 128 + self._number

    def close(self) -> None:
        """Let the program end as it is about to: a signal that arrives now is too late to change it."""
        # Python's own end would put back what kills; what is ignored stays ignored.
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        # Nor does a terminal that is gone: Python would call it an error of its own.
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._is_told:
            return
        if self._number is None:
            self._number = os.read(self._came, 1)[0]
        self._is_told = True
        self._told.set()
        raise Stopped

    def _unraisable(self, lost: sys.UnraisableHookArgs) -> None:
        """Receive a signal again that came while an object was removed, where Python drops exceptions."""
        if not isinstance(lost.exc_value, Stopped) or self._number is None:
            sys.__unraisablehook__(lost)
            return
        self._is_told = False
        threading.Timer(0.05, os.kill, (os.getpid(), self._number)).start()

    def _insist(self) -> None:
        self._told.wait()
        threading.Event().wait(_PATIENCE_SECONDS)
        os._exit(self.status or 1)
