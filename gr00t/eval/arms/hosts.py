"""Where a served policy lives during a run: a server of somebody else's, or one that the run starts itself.

Both answer two questions for everybody who asks the policy. When it is lost: is it back, and is it the same?
And after each episode: is what answers still what the run began with?
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from pydantic import ValidationError

from gr00t.eval.arms.facts import ServerDescription
from gr00t.eval.arms.server_process import PING_MS, ServerProcess
from gr00t.libero.tasks.suites import LiberoError
from gr00t.serving.client import (
    DEFAULT_TIMEOUT_MS,
    BaseInferenceClient,
    ExternalRobotInferenceClient,
    NoServerError,
    ServerError,
)
from gr00t.validation import first_of

logger = logging.getLogger(__name__)

_PATIENCE_PINGS = 10


class ServerChangedError(LiberoError):
    """A server is not, or no longer, what its arm says."""


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

    def describe(self) -> ServerDescription:
        """What the server says of itself."""
        with self.connect() as client:
            return _describe(client, self.address)

    def remember(self, described: ServerDescription) -> None:
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
        now = identity(_describe(client, self.address))
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
    """A policy server of the run's own: started, started again when it dies, and ended.

    Args:
        server: It, not started yet.
    """

    def __init__(self, server: ServerProcess) -> None:
        super().__init__("127.0.0.1", server.port)
        self.server = server
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def start(self) -> None:
        """See `ServerProcess.start`."""
        self.server.start()

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
            logger.warning("starting the policy server again%s", self.server.where)
            self.server.end()
            self.start()
            with self.connect() as client:
                self._check_same(client)

    def confirm(self, policy: Any) -> None:
        """Nothing to ask: nobody else can put another server in the place of this one."""

    def _answers_again(self) -> bool:
        """Whether the server answers by itself, within seconds: it may only have been slow."""
        with self.connect() as client:
            for _ in range(_PATIENCE_PINGS):
                if not self.server.is_running:
                    return False
                if client.ping(PING_MS):
                    return True
        return False

    def close(self) -> None:
        """End the server."""
        self._closed.set()
        self.server.close()


def identity(described: ServerDescription) -> dict[str, Any]:
    """What must stay the same of a server during a run, from `AddressHost.describe`."""
    report, info = described.report, described.info
    return {
        **{name: getattr(report, name) for name in ("enabled", "layers_quantized", "calibrating", "config")},
        **{name: info.get(name) for name in ("model_path", "denoising_steps", "dtype")},
        **report.hashes,
        **(info.get("identity") or {}),
        **(info.get("versions") or {}),
    }


def _describe(client: BaseInferenceClient, address: str) -> ServerDescription:
    told = {
        "quantization": _ask(client, "get_quantization_report"),
        "server": _ask(client, "get_server_info"),
    }
    try:
        return ServerDescription.model_validate(told)
    except ValidationError as error:
        raise LiberoError(f"what the server at {address} says of itself: {first_of(error)}") from None


def _ask(client: BaseInferenceClient, endpoint: str) -> dict[str, Any] | None:
    """The answer of an endpoint that not every server has."""
    try:
        answer: dict[str, Any] = client.call_endpoint(endpoint, requires_input=False)
    except ServerError as error:
        if "Unknown endpoint" not in error.reply:
            raise
        return None
    return answer
