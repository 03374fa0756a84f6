"""The supervisor of policy servers: starts one on this machine, waits until it answers, and ends it.

Everything that starts a policy server does it here: an evaluation, the demo, and the script that serves.
"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from gr00t.libero.tasks.suites import LiberoError
from gr00t.processes import watchdog
from gr00t.serving.client import ExternalRobotInferenceClient, NoServerError

# Stands in a program's arguments where the port belongs.
PORT = "{port}"
PING_MS = 1_000
PATIENCE_S = 15.0


class ServerEndedError(LiberoError):
    """A server has ended by itself; the message holds its last words.

    Attributes:
        status: The exit status, 128 and its number for a signal.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class ServerProcess:
    """A policy server of this machine, which ends with this process, whatever ends that.

    Args:
        program: A Python program that serves, a file or `-m MODULE`, and its arguments; the port takes the
            place of `PORT`.
        environ: Its environment variables.
        log_path: Receives what it prints; None: it prints where this process does.
        port: Where it listens; None: at a free one.
        wait_s: How long it may take to come up; loading and quantizing a model takes minutes.
    """

    def __init__(
        self,
        program: Sequence[str],
        environ: Mapping[str, str],
        log_path: Path | None = None,
        *,
        port: int | None = None,
        wait_s: float = 3600.0,
    ) -> None:
        self.port = port or free_port()
        self._program = [part.replace(PORT, str(self.port)) for part in program]
        self._environ = dict(environ)
        self._log_path = log_path
        self._wait_s = wait_s
        self._process: subprocess.Popen[bytes] | None = None
        self._is_wanted = True

    @property
    def is_running(self) -> bool:
        """Whether there is a process."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the server, if it does not run, and return when it answers.

        Raises:
            ServerEndedError: it ends before it answers.
            NoServerError: it does not answer in time.
        """
        if self._process is None:
            self._process = start_tied(self._program, self._environ, self._log_path)
        deadline = time.monotonic() + self._wait_s
        with ExternalRobotInferenceClient("127.0.0.1", self.port) as client:
            while not client.ping(PING_MS):
                if not self.is_running:
                    status = self.wait()
                    self.end()
                    raise ServerEndedError(
                        f"the policy server ended with status {status} before it was ready"
                        f"{self._last_words()}",
                        status,
                    )
                if not self._is_wanted or time.monotonic() > deadline:
                    raise NoServerError(
                        f"the policy server does not answer within {self._wait_s:g} s{self.where}"
                    )

    def wait(self) -> int:
        """Return the exit status when the started server ends by itself; see `exit_status`."""
        assert self._process is not None
        return exit_status(self._process)

    def end(self) -> None:
        """End the server if there is one, by force if it does not end by itself."""
        process, self._process = self._process, None
        if process is not None:
            end(process)

    def close(self) -> None:
        """End the server for good: whoever still waits for it hears that it does not answer."""
        self._is_wanted = False
        self.end()

    @property
    def where(self) -> str:
        """Where to read what it printed, for a message; empty where it has no log."""
        return f" (log: {self._log_path})" if self._log_path else ""

    def _last_words(self) -> str:
        if self._log_path is None:
            return ""
        shown = last_lines(self._log_path, 8)
        return f"; the end of {self._log_path}:\n  {shown}" if shown else self.where


def start_tied(
    program: Sequence[str], environ: Mapping[str, str], log_path: Path | None
) -> subprocess.Popen[bytes]:
    """Start a Python program that ends with this process; a log gets what it prints, if there is one."""
    command = [*watchdog.command(), *program]
    # Ctrl-C belongs to whoever started it, and ends it in order.
    if log_path is None:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environ, start_new_session=True)
    with log_path.open("ab") as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ, start_new_session=True
        )


def end(process: subprocess.Popen[bytes], patience_s: float = PATIENCE_S) -> None:
    """Ask a process to end, and make it end if it does not."""
    process.terminate()
    try:
        process.wait(timeout=patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def exit_status(process: subprocess.Popen[bytes]) -> int:
    """Return the exit status of a process when it ends, as a shell tells it: a signal as 128 and more."""
    status = process.wait()
    return status if status >= 0 else 128 - status


def run_tied(
    program: Sequence[str],
    environ: Mapping[str, str],
    log_path: Path | None = None,
    *,
    patience_s: float = PATIENCE_S,
) -> int:
    """Run a Python program that ends with this process; return its exit status, as a shell tells it."""
    child = start_tied(program, environ, log_path)
    try:
        return exit_status(child)
    finally:
        end(child, patience_s)


def last_lines(log: Path, count: int) -> str:
    """Return the end of a log, indented for an error's message."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return "\n  ".join(lines[-count:])


def free_port() -> int:
    """A TCP port of this machine that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
