"""Where a served policy lives during a run: a server of somebody else's, or one that the run starts itself.

Both answer two questions for everybody who asks the policy. When it is lost: is it back, and is it the same?
And after each episode: is what answers still what the run began with?
"""

from __future__ import annotations

import contextlib
import logging
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gr00t.libero.tasks.suites import LiberoError
from gr00t.processes import watchdog
from gr00t.serving.client import (
    DEFAULT_TIMEOUT_MS,
    BaseInferenceClient,
    ExternalRobotInferenceClient,
    NoServerError,
    ServerError,
)

logger = logging.getLogger(__name__)

# Stands in a command where the port belongs.
PORT = "{port}"
_PING_MS = 1_000
_PATIENCE_PINGS = 10


class ServerChangedError(LiberoError):
    """A server is not, or no longer, what its arm says."""


class ServerEndedError(LiberoError):
    """A server that the run started has ended by itself; the message holds its last words."""


class AddressHost:
    """A policy server that runs already.

    Args:
        host: Name of its machine.
        port: Its port.
        api_token: Its token, if it wants one.
        wait_s: How long to wait for it, at first and whenever it is gone.
    """

    def __init__(self, host: str, port: int, api_token: str | None = None, wait_s: float = 600.0) -> None:
        self.host = host
        self.port = port
        self._api_token = api_token
        self._wait_s = wait_s
        self._identity: dict[str, Any] | None = None

    @property
    def address(self) -> str:
        """As records show it."""
        return f"tcp://{self.host}:{self.port}"

    def connect(self) -> ExternalRobotInferenceClient:
        """See `gr00t.eval.rollout.agents.PolicyHost`."""
        return ExternalRobotInferenceClient(
            self.host, self.port, timeout_ms=DEFAULT_TIMEOUT_MS, api_token=self._api_token
        )

    def start(self) -> None:
        """Wait until the server answers.

        Raises:
            NoServerError: it does not, in time.
        """
        with self.connect() as client:
            if not client.ping(2_000):
                logger.info("no server answers at %s yet; waiting up to %g s", self.address, self._wait_s)
            client.wait_until_ready(self._wait_s)

    def describe(self) -> dict[str, Any]:
        """What the server says of itself: `quantization` and `server`, each None if it does not say."""
        with self.connect() as client:
            return _describe(client)

    def remember(self, described: Mapping[str, Any]) -> None:
        """Take what the server says as what it has to stay."""
        self._identity = identity(described)

    def recover(self) -> None:
        """Wait until the server is back.

        Raises:
            NoServerError: it stays away.
            ServerChangedError: another one came back.
        """
        self.start()
        with self.connect() as client:
            self._check_same(client)

    def confirm(self, policy: Any) -> None:
        """Raise `ServerChangedError` if what answers `policy` is not what the run began with."""
        self._check_same(policy)

    def _check_same(self, client: BaseInferenceClient) -> None:
        now = identity(_describe(client))
        before = self._identity or now
        for name in sorted(before.keys() | now.keys()):
            if before.get(name) != now.get(name):
                raise ServerChangedError(
                    f"the server at {self.address} changed during the run, {name}: {before.get(name)!r} "
                    f"before, {now.get(name)!r} now; its unfinished episode was not counted"
                )

    def close(self) -> None:
        """Leave the server alone: it is not ours."""


class StartedHost(AddressHost):
    """A policy server of the run's own: a process that is started, restarted when it dies, and ended.

    Args:
        command: Starts it, listening at the port that takes the place of `PORT`.
        environ: Its environment variables.
        log_path: Receives what it prints.
        wait_s: How long it may take to come up; loading and quantizing a model takes minutes.
    """

    def __init__(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        log_path: Path,
        *,
        wait_s: float = 3600.0,
    ) -> None:
        super().__init__("127.0.0.1", free_port(), wait_s=wait_s)
        self._command = [part.replace(PORT, str(self.port)) for part in command]
        self._environ = dict(environ)
        self._log_path = log_path
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def start(self) -> None:
        """Start the server, if it does not run, and wait until it answers.

        Raises:
            ServerEndedError: it ends before it answers.
            NoServerError: it does not answer in time.
        """
        if self._process is None:
            with self._log_path.open("ab") as log:
                self._process = subprocess.Popen(
                    watchdog.kept(self._command),
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    env=self._environ,
                    # Ctrl-C belongs to the evaluation, which ends the server in order.
                    start_new_session=True,
                )
        deadline = time.monotonic() + self._wait_s
        with self.connect() as client:
            while not client.ping(_PING_MS):
                status = self._process.poll()
                if status is not None:
                    self._end()
                    raise ServerEndedError(
                        f"the policy server ended with status {status} before it was ready"
                        f"{self._last_words()}"
                    )
                if self._closed.is_set() or time.monotonic() > deadline:
                    raise NoServerError(
                        f"the policy server does not answer within {self._wait_s:g} s (log: {self._log_path})"
                    )

    def recover(self) -> None:
        """Return when the server answers again, started anew if it died.

        Raises:
            ServerEndedError: it does not come up any more.
        """
        # Everybody who lost the server comes here; the first one restarts it, the others find it running.
        with self._lock:
            if self._closed.is_set():
                raise NoServerError("the run ends")
            if self._answers_again():
                return
            logger.warning("starting the policy server again (log: %s)", self._log_path)
            self._end()
            self.start()
            with self.connect() as client:
                self._check_same(client)

    def confirm(self, policy: Any) -> None:
        """Nothing to ask: nobody else can put another server in the place of this one."""

    def _answers_again(self) -> bool:
        """Whether the server answers by itself, within seconds: it may only have been slow."""
        with self.connect() as client:
            for _ in range(_PATIENCE_PINGS):
                if self._process is None or self._process.poll() is not None:
                    return False
                if client.ping(_PING_MS):
                    return True
        return False

    def close(self) -> None:
        """End the server."""
        self._closed.set()
        self._end()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()  # the watchdog's signal
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _last_words(self) -> str:
        lines = self._log_path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        shown = "\n  ".join(lines[-8:])
        return f"; the end of {self._log_path}:\n  {shown}" if shown else f" (log: {self._log_path})"


def free_port() -> int:
    """A TCP port of this machine that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def identity(described: Mapping[str, Any]) -> dict[str, Any]:
    """What must stay the same of a server during a run, from `AddressHost.describe`."""
    report = described.get("quantization") or {}
    info = described.get("server") or {}
    return {
        **{name: report.get(name) for name in ("enabled", "layers_quantized", "calibrating", "config")},
        **{name: info.get(name) for name in ("model_path", "denoising_steps", "dtype")},
        **report_hashes(report),
        **(info.get("identity") or {}),
        **(info.get("versions") or {}),
    }


def report_hashes(report: Mapping[str, Any]) -> dict[str, Any]:
    """The hashes in a report on quantization: of the layers that are served, wherever they came from."""
    return {name: value for name, value in report.items() if name.endswith("sha256")}


def _describe(client: BaseInferenceClient) -> dict[str, Any]:
    return {
        "quantization": _ask(client, "get_quantization_report"),
        "server": _ask(client, "get_server_info"),
    }


def _ask(client: BaseInferenceClient, endpoint: str) -> dict[str, Any] | None:
    """The answer of an endpoint that not every server has."""
    try:
        answer: dict[str, Any] = client.call_endpoint(endpoint, requires_input=False)
    except ServerError as error:
        if "Unknown endpoint" not in error.reply:
            raise
        return None
    return answer
