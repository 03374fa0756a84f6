"""The server of a policy: ZeroMQ, NVIDIA's wire format, and a request that fails harms nobody but its sender.

Three steps stand apart: a message becomes a checked `Request` (`read`), a request a result (`answer`),
and a loop owns the socket (`run`). The socket is a ROUTER, to REQ clients the same as the REP of NVIDIA's: it
may hold the requests of many clients at once and answer them in any order, and a client that vanishes in the
middle costs nothing but its own answer.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import socket as sockets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import zmq

from gr00t.eval import wire
from gr00t.spelling import did_you_mean

logger = logging.getLogger(__name__)

# Sixteen samples of two 640 x 480 frames are 30 MB.
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
_RECEIVE_QUEUE = 4  # per client; a REQ client has one message under way
_LINGER_MS = 1_000  # for the answer to `kill` to leave


class RequestError(ValueError):
    """A request that no endpoint can take; the text names the field."""


class BindError(OSError):
    """The address cannot be listened on."""


@dataclass(frozen=True)
class EndpointHandler:
    """What answers an endpoint: `handler(data, **options)`, or `handler(**options)` without input.

    `options` are the names that a request's `options` may hold for it.
    """

    handler: Callable[..., Any]
    requires_input: bool = True
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Request:
    """A request whose form and token have been checked. What `data` holds is the endpoint's to check."""

    endpoint: str
    data: Any
    options: dict[str, Any]


@dataclass(frozen=True)
class _Message:
    """A message from the socket: the frames that lead back to its sender, and its body."""

    envelope: list[bytes]
    body: list[bytes]
    from_loopback: bool


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
    ) -> None:
        """Listen.

        Args:
            host: Name or IPv4 address to listen on; `*` for every interface, which is NVIDIA's default.
            port: TCP port; 0 lets the system choose one (see `address`).
            api_token: If given, every request must carry it.
            max_message_bytes: A longer message gets an error reply, one over twice as long is cut off.

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
        self.register_endpoint("ping", self._handle_ping, requires_input=False)
        self.register_endpoint("kill", self._kill_server, requires_input=False)

        address = resolve_host(host)
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket: zmq.Socket[bytes] = self.context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.MAXMSGSIZE, 2 * max_message_bytes)
        self.socket.setsockopt(zmq.RCVHWM, _RECEIVE_QUEUE)
        try:
            self.socket.bind(f"tcp://{address}:{port or '*'}")
        except zmq.ZMQError as error:
            self.close()
            raise _bind_error(address, port, zmq.strerror(error.errno or 0)) from None
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
    ) -> None:
        """Let `handler` answer the endpoint `name`, replacing an earlier one.

        Args:
            name: What clients send as `endpoint`.
            handler: Called with the request's `data` if `requires_input`, and with its options as keywords.
                What it returns is the reply; what it raises is the error reply.
            requires_input: Whether the request carries `data`.
            options: Names of the options that it accepts.
        """
        self._endpoints[name] = EndpointHandler(handler, requires_input, tuple(options))

    def run(self) -> None:
        """Answer requests, one at a time, until `kill`; then close the socket, as also on an interrupt."""
        logger.info("Server is ready and listening on %s", self.address)
        try:
            while self.running:
                for message in self._receive():
                    reply = self._reply(message)
                    # To a sender that is gone, ROUTER drops the reply in silence, as it should be.
                    self.socket.send_multipart([*message.envelope, reply])
        finally:
            self.close()

    def close(self) -> None:
        """Stop listening; a reply under way gets a second to leave."""
        self.socket.close(linger=_LINGER_MS)
        self.context.term()

    def handle(self, payload: bytes, *, from_loopback: bool = False) -> bytes:
        """Return the reply to one message, whatever it is: this never raises an `Exception`.

        Args:
            payload: The message's bytes.
            from_loopback: Whether it came from this machine, which may `kill` without a token.
        """
        endpoint = "request"
        try:
            request = self.read(payload, from_loopback=from_loopback)
            endpoint = request.endpoint
            return wire.pack(self.answer(request))
        # The outermost border: whatever one request provokes must not stop the server for everybody.
        except Exception as error:
            if _is_refusal(error):
                logger.warning("%s refused: %.500s", endpoint, error)
            else:
                logger.exception("%s failed", endpoint)
            # The text of a ValueError says what was wrong; that of a KeyError would be a bare word.
            return _error_reply(
                str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            )

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
        endpoint = self._endpoints[request.endpoint]
        if endpoint.requires_input:
            return endpoint.handler(request.data, **request.options)
        return endpoint.handler(**request.options)

    def _receive(self) -> Iterator[_Message]:
        """Wait for the next message and yield it; here is where waiting ones can be gathered."""
        frames = self.socket.recv_multipart(copy=False)
        parts = [frame.bytes for frame in frames]
        if b"" not in parts[1:]:
            logger.warning(
                "message without an empty frame after its address dropped: the sender is no REQ client"
            )
            return
        body_at = parts.index(b"", 1) + 1
        yield _Message(parts[:body_at], parts[body_at:], _is_loopback(frames[-1].get("Peer-Address")))

    def _reply(self, message: _Message) -> bytes:
        if len(message.body) != 1:
            return _error_reply(f"request: expected one message part, got {len(message.body)}")
        return self.handle(message.body[0], from_loopback=message.from_loopback)

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


def resolve_host(host: str) -> str:
    """Return the IPv4 address of `host`: ZeroMQ takes no names where it listens.

    Raises:
        BindError: No such name, or no IPv4 address.
    """
    if host == "*":
        return "0.0.0.0"
    try:
        return sockets.gethostbyname(host)
    except (OSError, UnicodeError) as error:
        raise BindError(f"host {host!r}: not a name or IPv4 address that is known here: {error}") from None


def check_port_free(host: str, port: int) -> None:
    """Fail now if `port` could not be listened on later: loading a model takes minutes. Nothing is opened.

    Raises:
        BindError: The port is in use or not allowed, or the address not one of this machine.
    """
    address = resolve_host(host)
    if not 0 <= port <= 65535:
        raise BindError(f"port: expected 0 to 65535, got {port}")
    with sockets.socket(sockets.AF_INET, sockets.SOCK_STREAM) as probe:
        # As ZeroMQ does: the connections of a server that has just ended do not block its port.
        probe.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            raise _bind_error(address, port, error.strerror or str(error)) from None


def _bind_error(address: str, port: int, reason: str) -> BindError:
    return BindError(
        f"cannot listen on tcp://{address}:{port}: {reason}; stop what listens there or choose another port"
    )


def _is_loopback(address: object) -> bool:
    try:
        return ipaddress.ip_address(str(address)).is_loopback
    except ValueError:
        return False


def _is_refusal(error: Exception) -> bool:
    """Return whether one of our own classes says what is wrong with the request: no traceback is needed."""
    return isinstance(error, ValueError) and type(error).__module__.startswith("gr00t.")


def _error_reply(text: str) -> bytes:
    # A text may quote bytes that are no UTF-8; the reply must be packable whatever it says.
    return wire.pack({"error": text.encode("utf-8", "replace").decode()})
