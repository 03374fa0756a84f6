"""The client of a policy server: what a robot or a simulator imports.

It speaks NVIDIA's wire format, so it drives an Isaac-GR00T N1.5 server too. Two things differ from NVIDIA's
client: a timeout is kept, and a call that failed leaves the client usable, even if the server restarts. So
this survives whatever happens to the server, and with a seed the second answer is what the first would have
been:

    while True:
        try:
            actions = client.get_action(observation, seed=seed)
            break
        except (NoServerError, NoReplyError):
            client.wait_until_ready()

This file runs inside the simulator's process: Python 3.8, numpy, msgpack and pyzmq, no torch.
"""

from __future__ import annotations

import logging
import time
from types import TracebackType
from typing import Any

import zmq
from zmq.utils.monitor import recv_monitor_message

from gr00t.serving.sockets.address import UnknownHostError, name_address, strip_brackets
from gr00t.serving.sockets.reach import choose_address, why_no_server
from gr00t.serving.wires import n1_5 as wire
from gr00t.serving.wires.outline import MAX_MESSAGE_BYTES

logger = logging.getLogger(__name__)

# A full-size model on two busy CPU cores needs up to 40 s for one action chunk.
DEFAULT_TIMEOUT_MS = 120_000
_CONNECT_TIMEOUT_MS = 10_000
_PING_TIMEOUT_MS = 5_000
_PAUSE_S = 0.1  # before asking a busy server again, or a stopping one's successor


class ServerError(RuntimeError):
    """The server refused the request; `reply` is its own text."""

    def __init__(self, reply: str) -> None:
        """Take the text of the server's error reply."""
        super().__init__(f"Server error: {reply}")
        self.reply = reply


class NoServerError(ConnectionError):
    """Nothing that speaks the protocol is there, or it left before it answered."""


class NoReplyError(TimeoutError):
    """A server took the request and did not answer it in time."""


class BaseInferenceClient:
    """One connection to a server. Not safe to share between threads; make one client for each."""

    def __init__(
        self,
        host: str = "localhost",
        port: int = 5555,
        timeout_ms: int = DEFAULT_TIMEOUT_MS,
        api_token: str | None = None,
    ) -> None:
        """Begin to connect; whether anybody is there shows in the first call.

        Args:
            host: Name or address of the server, IPv4 or IPv6; of a name's addresses the one that answers.
            port: Its TCP port.
            timeout_ms: The longest a call may take; connecting may take 10 s of it.
            api_token: Sent with every request when given.

        Raises:
            ValueError: A port, host or timeout that cannot be.
        """
        if not 1 <= port <= 65535:
            raise ValueError(f"port: expected 1 to 65535, got {port}")
        if timeout_ms <= 0:
            raise ValueError(f"timeout_ms: expected a positive number of milliseconds, got {timeout_ms}")
        self.host = host
        self.port = port
        self.timeout_ms = timeout_ms
        self.api_token = api_token
        self.address = f"tcp://{name_address(strip_brackets(host), port)}"
        # The process' own: the end of one that nobody closed would wait for its sockets, for ever where both
        # are collected at once, as after an error that holds the client.
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
        self.socket: zmq.Socket[bytes] | None = None
        self._connected = False
        self._init_socket()

    def ping(self, timeout_ms: int | None = None) -> bool:
        """Return whether the server answers within `timeout_ms` (default: 5 s, or the client's if shorter).

        Raises:
            ServerError: The server answers, but refuses the token.
        """
        try:
            self._call({"endpoint": "ping"}, timeout_ms or min(self.timeout_ms, _PING_TIMEOUT_MS))
        except (NoServerError, NoReplyError):
            return False
        return True

    def wait_until_ready(self, timeout_s: float = 600.0) -> None:
        """Return as soon as the server answers a ping; loading and quantizing a model takes it a while.

        Raises:
            NoServerError: No answer within `timeout_s` seconds.
            ServerError: The server answers, but refuses the token.
        """
        deadline = time.monotonic() + timeout_s
        announced = False
        while True:
            left_ms = int((deadline - time.monotonic()) * 1000)
            if left_ms <= 0:
                raise self._no_server(f"waited {timeout_s:g} seconds")
            if self.ping(min(left_ms, 2_000)):
                return
            time.sleep(_PAUSE_S)
            if not announced:
                logger.info("waiting for a server at %s, up to %g seconds", self.address, timeout_s)
                announced = True

    def kill_server(self) -> None:
        """Stop the server. It obeys whoever has its token or, if it has none, its own machine."""
        self.call_endpoint("kill", requires_input=False)

    def call_endpoint(
        self,
        endpoint: str,
        data: dict[str, Any] | None = None,
        requires_input: bool = True,
        options: dict[str, Any] | None = None,
    ) -> Any:
        """Call an endpoint and return its answer.

        Args:
            endpoint: `ping`, `get_action`, `get_modality_config`, `get_quantization_report`,
                `get_server_info`, `kill`, or any other that the server has.
            data: Its input, sent when `requires_input`.
            requires_input: Whether the request carries `data`.
            options: Extra fields that NVIDIA's server does not know, such as `{"seed": 7}`.

        Raises:
            NoServerError: No connection in time, or the server ended before it answered.
            NoReplyError: No answer within the client's timeout, or the server was busy for all of it.
            ServerError: The server's own error reply, or a message that is longer than it takes.
            gr00t.serving.wires.n1_5.PackError: A value that cannot be sent.
            gr00t.serving.wires.n1_5.WireError: The answer is not in this format.
        """
        request: dict[str, Any] = {"endpoint": endpoint}
        if requires_input:
            request["data"] = data
        if options:
            request["options"] = options
        return self._call(request, self.timeout_ms)

    def close(self) -> None:
        """Close the connection; the client cannot be used any more."""
        self._drop_socket()

    def __enter__(self) -> BaseInferenceClient:
        """Return the client; leaving the block closes it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self.close()

    def _no_server(self, what: str) -> NoServerError:
        why = why_no_server(self.host, self.port)
        return NoServerError(
            f"no server at {self.address}: {what} ({why}); start it with ./run_inference_server.sh SUITE, or "
            f"python scripts/inference_service.py --server --model-path PATH_OR_HUB_ID --port {self.port}"
        )

    def _init_socket(self) -> None:
        self._drop_socket()
        self._has_address = False
        self.socket = self.context.socket(zmq.REQ)
        self.socket.setsockopt(zmq.LINGER, 0)
        # ZeroMQ connects, and connects again, in silence. The monitor tells "nobody there" and "gone" from
        # "no answer yet" without waiting for the whole timeout.
        self._monitor = self.socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        try:
            address = choose_address(self.host, self.port)
        except UnknownHostError:
            # The name may be known later. Meanwhile this socket goes nowhere, and `_wait_connected` says why.
            return
        if ":" in address:
            self.socket.setsockopt(zmq.IPV6, 1)
        self.socket.connect(f"tcp://{name_address(address, self.port)}")
        self._has_address = True

    def _drop_socket(self) -> None:
        if self.socket is not None:
            self.socket.disable_monitor()
            self._monitor.close(linger=0)
            self.socket.close(linger=0)
            self.socket = None
            self._connected = False

    def _is_connected(self) -> bool:
        """Take note of what has happened to the connection since the last look."""
        while self._monitor.poll(0):
            self._connected = recv_monitor_message(self._monitor)["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED
        return self._connected

    def _wait_connected(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not self._is_connected():
            if not self._has_address:
                raise self._no_server("not tried")
            left_ms = int((deadline - time.monotonic()) * 1000)
            if left_ms <= 0:
                raise self._no_server(f"no connection within {timeout_s:g} seconds")
            self._monitor.poll(left_ms)

    def _call(self, request: dict[str, Any], timeout_ms: int) -> Any:
        if self.api_token:
            request["api_token"] = self.api_token
        payload, endpoint = wire.pack(request), str(request["endpoint"])
        if len(payload) > MAX_MESSAGE_BYTES:
            self._check_length(len(payload))
        deadline = time.monotonic() + timeout_ms / 1000
        left_ms = timeout_ms
        while True:
            reply = wire.unpack(self._exchange(payload, endpoint, left_ms))
            if not isinstance(reply, dict) or "error" not in reply:
                return reply
            error = str(reply["error"])
            if error.startswith(wire.STOPPING):
                raise NoServerError(f"the server at {self.address} ended before it answered {endpoint}")
            if not error.startswith(wire.BUSY):
                raise ServerError(error)
            left_ms = int((deadline - time.monotonic() - _PAUSE_S) * 1000)
            if left_ms <= 0:
                raise NoReplyError(
                    f"{self.address} did not take {endpoint} within {timeout_ms / 1000:g} s: {error}"
                )
            time.sleep(_PAUSE_S)

    def _check_length(self, length: int) -> None:
        """Refuse a message that the server would not take, before minutes are spent on sending it."""
        try:
            limit = self.call_endpoint("get_server_info", requires_input=False).get("max_message_bytes")
        except ServerError:  # NVIDIA's server knows no such endpoint, and no limit
            return
        if isinstance(limit, int) and length > limit:
            raise ServerError(
                f"message of {length} bytes; at most {limit} are accepted: send fewer samples, or smaller "
                "frames, in each request (it was not sent)"
            )

    def _exchange(self, payload: bytes, endpoint: str, timeout_ms: int) -> bytes:
        socket = self.socket
        if socket is None:
            raise ValueError(f"the client of {self.address} is closed")
        deadline = time.monotonic() + timeout_ms / 1000
        answered = False
        try:
            self._wait_connected(min(timeout_ms, _CONNECT_TIMEOUT_MS) / 1000)
            socket.send(payload)
            poller = zmq.Poller()
            poller.register(socket, zmq.POLLIN)
            poller.register(self._monitor, zmq.POLLIN)
            while poller.poll(max(0, int((deadline - time.monotonic()) * 1000))):
                # In this order: a server may answer and leave, and then the answer is here before that news.
                gone = not self._is_connected()
                if socket.poll(0):
                    reply = socket.recv()
                    answered = True
                    return reply
                if gone:
                    raise NoServerError(
                        f"the server at {self.address} went away before it answered {endpoint}"
                    )
            raise NoReplyError(
                f"no answer to {endpoint} from {self.address} within {timeout_ms / 1000:g} seconds"
            )
        finally:
            # A REQ socket that waits for an answer refuses the next question, after Ctrl-C too: begin anew.
            if not answered:
                self._init_socket()


class ExternalRobotInferenceClient(BaseInferenceClient):
    """A policy on the other side of a socket; the name by which Isaac-GR00T N1.5's users know it."""

    def get_action(self, observations: dict[str, Any], *, seed: int | None = None) -> dict[str, Any]:
        """Return the action chunk for an observation.

        Args:
            observations: Per key an array, `video.*` (T, height, width, 3) uint8 and `state.*` (T, D) float,
                or a list of text; all with a leading B for a batch.
            seed: Fixes the flow noise of this request. NVIDIA's server ignores it.

        Returns:
            Per action key a float32 array (H, D), or (B, H, D) for a batch.

        Raises:
            ServerError: The server's error reply, which names the key. Other errors: see `call_endpoint`.
        """
        options = None if seed is None else {"seed": seed}
        actions: dict[str, Any] = self.call_endpoint("get_action", observations, options=options)
        return actions

    def get_modality_config(self) -> dict[str, Any]:
        """Return the keys and time steps that the policy expects, a `ModalityConfig` per modality."""
        config: dict[str, Any] = self.call_endpoint("get_modality_config", requires_input=False)
        return config

    def get_quantization_report(self) -> dict[str, Any]:
        """Return what is quantized in the served model, as measured there; unknown to NVIDIA's server."""
        report: dict[str, Any] = self.call_endpoint("get_quantization_report", requires_input=False)
        return report

    def get_server_info(self) -> dict[str, Any]:
        """Return what is served and how: checkpoint, dtype, batching; unknown to NVIDIA's server."""
        info: dict[str, Any] = self.call_endpoint("get_server_info", requires_input=False)
        return info
