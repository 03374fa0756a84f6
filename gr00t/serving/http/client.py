"""The client of a policy server over HTTP: for robots whose network lets nothing else through.

It asks an Isaac-GR00T N1.5 server started with `--http-server`, too. Where there is a choice take
gr00t.serving.client: as text an image is a third longer, and has to be read.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from typing import Any

from gr00t.serving.client import DEFAULT_TIMEOUT_MS, NoReplyError, NoServerError, ServerError
from gr00t.serving.sockets.address import UnknownHostError, name_address, strip_brackets
from gr00t.serving.sockets.reach import choose_address
from gr00t.serving.wires import json_arrays

_MAX_REPLY_BYTES = 64 * 1024 * 1024
_PAUSE_S = 0.1  # before asking a busy server again
_OK, _BUSY = 200, 503


class StatusError(ServerError):
    """An error reply, with its number in HTTP."""

    def __init__(self, status: int, reply: str) -> None:
        """Take the number and the server's own text."""
        super().__init__(f"{reply} (HTTP {status})")
        self.status = status


class HTTPInferenceClient:
    """Asks a server over HTTP, each time over a connection of its own."""

    def __init__(
        self,
        host: str = "localhost",
        port: int = 5555,
        timeout_ms: int = DEFAULT_TIMEOUT_MS,
        api_token: str | None = None,
    ) -> None:
        """Take note of where to ask; whether anybody is there shows in the first call.

        Args:
            host: Name or address of the server, IPv4 or IPv6.
            port: Its TCP port.
            timeout_ms: The longest a call may take.
            api_token: Sent with every request when given.
        """
        self.host = strip_brackets(host)
        self.port = port
        self.timeout_ms = timeout_ms
        self.address = f"http://{name_address(self.host, port)}"
        self._token = api_token

    def get_action(self, observations: dict[str, Any], *, seed: int | None = None) -> dict[str, Any]:
        """Return the action chunk for an observation; see `ExternalRobotInferenceClient.get_action`.

        Raises:
            NoServerError: Nothing that speaks HTTP is there, or it left before it answered.
            NoReplyError: No answer within the timeout, or the server was busy for all of it.
            StatusError: The server's own error reply.
            gr00t.serving.wires.n1_5.PackError: A value that cannot be sent.
        """
        path = "/act" if seed is None else f"/act?seed={seed}"
        actions: dict[str, Any] = self._ask("POST", path, {"observation": observations})
        return actions

    def get_server_info(self) -> dict[str, Any]:
        """Return what is served and how; unknown to NVIDIA's server. For errors see `get_action`."""
        info: dict[str, Any] = self._ask("GET", "/server_info")
        return info

    def get_quantization_report(self) -> dict[str, Any]:
        """Return what is quantized in the served model; unknown to NVIDIA's server."""
        report: dict[str, Any] = self._ask("GET", "/quantization_report")
        return report

    def close(self) -> None:
        """Do nothing: no connection outlives its call."""

    def is_healthy(self) -> bool:
        """Return whether a server answers."""
        try:
            return bool(self._ask("GET", "/health")["status"] == "healthy")
        except (NoServerError, NoReplyError):
            return False

    def _ask(self, method: str, path: str, content: Any = None) -> Any:
        body = None if content is None else json_arrays.dumps(content)
        deadline = time.monotonic() + self.timeout_ms / 1000
        while True:
            status, reply = self._exchange(method, path, body, deadline)
            if status == _BUSY and time.monotonic() + _PAUSE_S < deadline:
                time.sleep(_PAUSE_S)
                continue
            if status == _OK:
                return json_arrays.loads(reply)
            detail = _detail(reply)
            if status == _BUSY:
                raise NoReplyError(f"{self.address} did not take {path}: {detail}")
            raise StatusError(status, detail)

    def _exchange(self, method: str, path: str, body: bytes | None, deadline: float) -> tuple[int, bytes]:
        """Send one request and return the status and content of its reply."""
        headers: dict[str, str | bytes] = {} if body is None else {"Content-Type": "application/json"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}".encode()
        try:
            address = choose_address(self.host, self.port)
        except UnknownHostError as error:
            raise NoServerError(f"no server at {self.address}: {error}") from None
        left = max(deadline - time.monotonic(), 0.001)
        connection = http.client.HTTPConnection(address, self.port, timeout=left)
        try:
            headers["Host"] = name_address(self.host, self.port)
            # Whoever hangs up in the middle of a request may have said why.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.read(_MAX_REPLY_BYTES)
        except TimeoutError:
            raise NoReplyError(
                f"no answer to {path} from {self.address} within {self.timeout_ms / 1000:g} seconds"
            ) from None
        except (http.client.HTTPException, OSError) as error:
            raise NoServerError(
                f"no HTTP server at {self.address}: {error or type(error).__name__}; start it with python "
                f"scripts/inference_service.py --server --http-server --model-path PATH --port {self.port}"
            ) from None
        finally:
            connection.close()


def _detail(reply: bytes) -> str:
    """Return the text of an error reply."""
    try:
        return str(json.loads(reply)["detail"])
    except (ValueError, KeyError, TypeError):
        return reply[:500].decode("utf-8", "replace")
