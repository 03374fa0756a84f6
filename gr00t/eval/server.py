"""The server of a policy: ZeroMQ, NVIDIA's wire format, and a request that fails harms nobody but its sender.

Four steps stand apart: a message becomes a checked `Request` (`read`), a request a result (`answer`), a
worker decides what is computed together (gr00t.eval.batching), and a loop owns the socket (`run`). The socket
is a ROUTER, to REQ clients the same as the REP of NVIDIA's: it holds the requests of many clients at once and
answers them in any order, and a client that vanishes in the middle costs nothing but its own answer.

The loop and the worker are two threads, because a forward of a full-size model takes seconds on a CPU: a
client that pings meanwhile must not think that nobody is there, and a request that arrives meanwhile is
decoded and waits for the next batch. For that a lone request is handed over twice, which takes some 0.1 ms.
"""

from __future__ import annotations

import collections
import hmac
import ipaddress
import logging
import socket as sockets
from collections.abc import Callable, Iterable
from typing import Any

import zmq

from gr00t.eval import wire
from gr00t.eval.address import BindError, bind_error, resolve_host
from gr00t.eval.batching import MAX_WAITING, Job, Worker, stopping
from gr00t.eval.endpoints import (
    BatchedEndpoint,
    EndpointHandler,
    Failure,
    Request,
    RequestError,
    UnavailableError,
    attempt,
)
from gr00t.spelling import did_you_mean

__all__ = ["BaseInferenceServer", "BindError", "EndpointHandler", "Request", "RequestError"]

logger = logging.getLogger(__name__)

# Sixteen samples of two 640 x 480 frames are 30 MB.
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
_RECEIVE_QUEUE = 4  # per client; a REQ client has one message under way
_MESSAGES_AT_A_TIME = 32  # then answers that are ready leave first
_LINGER_MS = 1_000  # for the last answers to leave
# A signal that comes just before the loop begins to wait would be seen at the next message only.
_LOOK_UP_MS = 500


class BaseInferenceServer:
    """A server with the endpoints `ping` and `kill`; add others with `register_endpoint`, then call `run`.

    It listens from construction on, so construct it when everything behind it is ready.
    """

    def __init__(
        self,
        host: str = "localhost",
        port: int = 5555,
        api_token: str | None = None,
        *,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        """Listen.

        Args:
            host: Name or IPv4 address to listen on; `*` for every interface, which is NVIDIA's default.
            port: TCP port; 0 lets the system choose one (see `address`).
            api_token: If given, every request must carry it.
            max_message_bytes: A longer message gets an error reply, one over twice as long is cut off.
            max_waiting: So many requests may wait to be computed; more get the error reply `busy: ...`.

        Raises:
            BindError: The address is in use, or not one of this machine.
            ValueError: An empty token, which would look like protection and be none.
        """
        if api_token == "":
            raise RequestError("api_token: is empty; give a token, or None for a server without one")
        self.running = True
        self.api_token = api_token
        self.max_message_bytes = max_message_bytes
        self._endpoints: dict[str, EndpointHandler] = {}
        self.register_endpoint("ping", self._handle_ping, requires_input=False, immediate=True)
        self.register_endpoint("kill", self._kill_server, requires_input=False, immediate=True)
        self.worker = Worker(self._deliver, self._wake, max_waiting=max_waiting)
        self._replies: collections.deque[list[bytes]] = collections.deque()
        self._wake_up, self._awake = sockets.socketpair()

        address = resolve_host(host)
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket: zmq.Socket[bytes] = self.context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.MAXMSGSIZE, 2 * max_message_bytes)
        self.socket.setsockopt(zmq.RCVHWM, _RECEIVE_QUEUE)
        try:
            self.socket.bind(f"tcp://{address}:{port or '*'}")
        except zmq.ZMQError as error:
            self.close()
            raise bind_error(address, port, zmq.strerror(error.errno or 0)) from None
        self.address: str = self.socket.getsockopt_string(zmq.LAST_ENDPOINT)
        if api_token is None and not ipaddress.ip_address(address).is_loopback:
            logger.warning(
                "%s is open to other machines and has no API token; kill is refused to them", self.address
            )

    def register_endpoint(
        self,
        name: str,
        handler: Callable[..., Any],
        requires_input: bool = True,
        *,
        options: Iterable[str] = (),
        immediate: bool = False,
        batched: BatchedEndpoint | None = None,
    ) -> None:
        """Let `handler` answer the endpoint `name`, replacing an earlier one.

        Args:
            name: What clients send as `endpoint`.
            handler: Called with the request's `data` if `requires_input`, and with its options as keywords.
                What it returns is the reply; what it raises is the error reply.
            requires_input: Whether the request carries `data`.
            options: Names of the options that it accepts.
            immediate: Answer it in the socket's loop, also while something is computed: only for what is
                quick and safe beside every other endpoint. All others are called one after the other.
            batched: What answers several requests at once, in place of `handler`.
        """
        self._endpoints[name] = EndpointHandler(handler, requires_input, tuple(options), immediate, batched)

    def run(self) -> None:
        """Answer requests until `kill`; then close the socket, as also on an interrupt.

        In the end what is being computed is still answered; what waits or arrives gets an error reply.
        """
        logger.info("Server is ready and listening on %s", self.address)
        poller = zmq.Poller()
        poller.register(self.socket, zmq.POLLIN)
        poller.register(self._awake, zmq.POLLIN)
        self.worker.start()
        try:
            try:
                while self.running:
                    self._turn(poller)
                    if self.worker.ended:
                        raise RuntimeError("the computing thread died; its traceback stands above")
            finally:
                self.running = False
                self.worker.stop()
                while not self.worker.ended:
                    self._turn(poller)
                self.worker.join()
                self._turn(poller, timeout_ms=0)
        finally:
            self.close()

    def close(self) -> None:
        """Stop listening; replies under way get a second to leave."""
        self.socket.close(linger=_LINGER_MS)
        self.context.term()
        self._wake_up.close()
        self._awake.close()

    def handle(self, payload: bytes, *, from_loopback: bool = False) -> bytes:
        """Return the reply to one message, whatever it is: this never raises an `Exception`.

        Args:
            payload: The message's bytes.
            from_loopback: Whether it came from this machine, which may `kill` without a token.
        """
        request = attempt(lambda: self.read(payload, from_loopback=from_loopback))
        if isinstance(request, Failure):
            return self._pack("request", request)
        return self._pack(request.endpoint, attempt(lambda: self.answer(request)))

    def read(self, payload: bytes, *, from_loopback: bool = False) -> Request:
        """Decode and check a message, up to what its endpoint expects of `data`.

        Raises:
            RequestError: Too long, not a map, a wrong token or type, an unknown endpoint or option.
            gr00t.eval.wire.WireError: Not decodable.
        """
        if len(payload) > self.max_message_bytes:
            raise RequestError(
                f"message of {len(payload)} bytes; at most {self.max_message_bytes} are accepted"
            )
        fields = wire.unpack(payload)
        if not isinstance(fields, dict):
            raise RequestError(f"request: expected a map with endpoint and data, got {type(fields).__name__}")
        if not self._validate_token(fields):
            raise RequestError("Unauthorized: Invalid API token")
        endpoint = fields.get("endpoint", "get_action")
        if not isinstance(endpoint, str):
            raise RequestError(f"endpoint: expected text, got {type(endpoint).__name__}")
        if endpoint not in self._endpoints:
            raise RequestError(f"Unknown endpoint: {endpoint:.200}")
        if endpoint == "kill" and self.api_token is None and not from_loopback:
            raise RequestError(
                "kill: refused to another machine; start the server with an API token and send it"
            )
        options = fields.get("options", {})
        if not isinstance(options, dict):
            raise RequestError(f"options: expected a map, got {type(options).__name__}")
        accepted = self._endpoints[endpoint].options
        for name in options:
            if not isinstance(name, str) or name not in accepted:
                known = did_you_mean(str(name), accepted) if accepted else f"{endpoint} takes none"
                raise RequestError(f"options: unknown option {name!r:.100}; {known}")
        return Request(endpoint, fields.get("data", {}), options)

    def answer(self, request: Request) -> Any:
        """Call the endpoint of a checked request and return its result."""
        return self._endpoints[request.endpoint].answer(request)

    def _turn(self, poller: zmq.Poller, timeout_ms: int = _LOOK_UP_MS) -> None:
        """Wait until there is something to do; take in some messages and send the answers that are ready."""
        if self._awake.fileno() in dict(poller.poll(timeout_ms)):
            self._awake.recv(4096)
        for _ in range(_MESSAGES_AT_A_TIME):
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                break
            self._take_in(frames)
        while self._replies:
            # To a sender that is gone, ROUTER drops the reply in silence, as it should be.
            self.socket.send_multipart(self._replies.popleft())

    def _take_in(self, frames: list[zmq.Frame]) -> None:
        """Answer a message at once, or give it to the worker."""
        parts = [frame.bytes for frame in frames]
        if b"" not in parts[1:]:
            logger.warning(
                "message without an empty frame after its address dropped: the sender is no REQ client"
            )
            return
        body_at = parts.index(b"", 1) + 1
        envelope, body = parts[:body_at], parts[body_at:]
        from_loopback = _is_loopback(frames[-1].get("Peer-Address"))
        outcome = attempt(lambda: self._begin(envelope, body, from_loopback))
        if outcome is not None:
            self._replies.append(
                [*envelope, outcome if isinstance(outcome, bytes) else self._pack("request", outcome)]
            )

    def _begin(self, envelope: list[bytes], body: list[bytes], from_loopback: bool) -> bytes | None:
        """Return the reply to a message, or None where the worker will deliver it."""
        if len(body) != 1:
            raise RequestError(f"request: expected one message part, got {len(body)}")
        if not self.running:
            raise stopping()
        request = self.read(body[0], from_loopback=from_loopback)
        endpoint = self._endpoints[request.endpoint]
        if endpoint.immediate:
            return self._pack(request.endpoint, attempt(lambda: endpoint.answer(request)))
        self.worker.submit(Job(request, endpoint, envelope, len(body[0])))
        return None

    def _deliver(self, job: Job, outcome: Any) -> None:
        """Queue the reply to a job and wake the loop; the worker calls this in its own thread."""
        self._replies.append([*job.envelope, self._pack(job.request.endpoint, outcome)])
        self._wake()

    def _wake(self) -> None:
        self._wake_up.send(b"\0")

    def _pack(self, name: str, outcome: Any) -> bytes:
        """Return the reply that says a result or a Failure, and log the latter."""
        reply = outcome if isinstance(outcome, Failure) else attempt(lambda: wire.pack(outcome))
        if not isinstance(reply, Failure):
            return reply
        if isinstance(reply.error, UnavailableError):
            pass  # the worker says so once, not for every message of a flood
        elif reply.is_refusal:
            logger.warning("%s refused: %.500s", name, reply.text)
        else:
            logger.error("%s failed", name, exc_info=reply.error)
        # A text may quote bytes that are no UTF-8; the reply must be packable whatever it says.
        return wire.pack({"error": reply.text.encode("utf-8", "replace").decode()})

    def _validate_token(self, fields: dict[str, Any]) -> bool:
        if self.api_token is None:
            return True
        token = fields.get("api_token")
        return isinstance(token, str) and hmac.compare_digest(token.encode(), self.api_token.encode())

    def _handle_ping(self) -> dict[str, str]:
        return {"status": "ok", "message": "Server is running"}

    def _kill_server(self) -> None:
        logger.info("stopping: kill was called")
        self.running = False


def _is_loopback(address: object) -> bool:
    try:
        return ipaddress.ip_address(str(address)).is_loopback
    except ValueError:
        return False
