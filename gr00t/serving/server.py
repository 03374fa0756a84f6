"""The server of a policy: ZeroMQ, NVIDIA's wire format, and a request that fails harms nobody but its sender.

Four steps stand apart: a message becomes a checked `Request` (`read`), a request a result (`answer`), a
worker decides what is computed together (gr00t.serving.batching), and a loop owns the connections (`run`). It
holds the requests of many clients at once and answers them in any order; to a REQ client it is the same as
NVIDIA's REP. A client that vanishes in the middle costs nothing but its own answer, which is not computed if
it was still waiting.

The loop and the worker are two threads, because a forward of a full-size model takes seconds on a CPU: a
client that pings meanwhile must not think that nobody is there. So the loop does nothing that takes long. It
goes over each message as far as is needed to compare the token and to know the endpoint, in turns with the
others (gr00t.serving.wires.outline); what the request carries is decoded by the worker.
"""

from __future__ import annotations

import collections
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from gr00t.serving.batching import MAX_WAITING, QueuedRequest, Worker, stopping
from gr00t.serving.connections import Connections
from gr00t.serving.endpoints import (
    BatchedEndpoint,
    EndpointHandler,
    Failure,
    Request,
    RequestError,
    UnavailableError,
    attempt,
)
from gr00t.serving.message_reader import MessageReader
from gr00t.serving.sockets.address import BindError, describe_reach, is_loopback, resolve_host
from gr00t.serving.sockets.connection import Connection, Conversation
from gr00t.serving.sockets.rate_limited_log import RateLimitedLog
from gr00t.serving.sockets.zmtp import MAX_ENVELOPE_PART_BYTES, Message, ZmtpConversation
from gr00t.serving.wires import n1_5 as wire
from gr00t.serving.wires.outline import MAX_MESSAGE_BYTES

__all__ = ["BaseInferenceServer", "BindError", "EndpointHandler", "Request", "RequestError"]

logger = logging.getLogger(__name__)

_MAX_ERROR_CHARACTERS = 2_000  # what a client sent may stand in it
_SHORT_BYTES = 4096  # gone over in less than a millisecond
_TURN_S = 0.02  # for short messages, and for others; then the connections are looked at again
_LINGER_S = 1.0  # for the last answers to leave
# A signal that comes just before the loop begins to wait would be seen at the next message only.
_LOOK_UP_S = 0.5
_DONE = object()  # what `next` returns at an iterator's end


class BaseInferenceServer:
    """A server with the endpoints `ping` and `kill`; add others with `register_endpoint`, then call `run`.

    It listens from construction on, so construct it when everything behind it is ready.
    """

    scheme = "tcp"
    reader_class = MessageReader

    def __init__(
        self,
        host: str = "localhost",
        port: int = 5555,
        api_token: str | None = None,
        *,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        max_waiting: int = MAX_WAITING,
        beside: BaseInferenceServer | None = None,
    ) -> None:
        """Listen.

        Args:
            host: Name or address to listen on; `*` for every interface, which is NVIDIA's default, `::` for
                those of IPv6, too.
            port: TCP port; 0 lets the system choose one (see `address`).
            api_token: If given, every request must carry it.
            max_message_bytes: A longer message gets an error reply and is not kept.
            max_waiting: So many requests may wait to be computed; more get the error reply `busy: ...`.
            beside: Another server of the same model: they share its computing thread and queue, and when one
                ends, so does the other.

        Raises:
            BindError: The address is in use, or not one of this machine.
            ValueError: An empty token, which would look like protection and be none, or one that no client
                can send.
        """
        self.running = True
        self.api_token = api_token
        self.max_message_bytes = max_message_bytes
        self._endpoints: dict[str, EndpointHandler] = {}
        self._reader = self.reader_class(self._endpoints, api_token, max_message_bytes)
        self.register_endpoint("ping", self._handle_ping, requires_input=False, immediate=True)
        self.register_endpoint("kill", self._kill_server, requires_input=False, immediate=True)
        self.worker: Worker = Worker(max_waiting=max_waiting) if beside is None else beside.worker
        self.worker.tell_end(lambda: self.connections.wake())
        # Each with how many of the requests given to the worker it answers: 0 or 1.
        self._replies: collections.deque[tuple[Connection, list[bytes], int]] = collections.deque()
        # Connections with messages to go over, and how far that has got: those that begin with a short one,
        # a ping for instance, and those that wait for their turn.
        self._short: collections.deque[tuple[Connection, Iterator[None]]] = collections.deque()
        self._turns: collections.deque[tuple[Connection, Iterator[None]]] = collections.deque()
        self._refusals, self._surprises = RateLimitedLog(logger), RateLimitedLog(logger)

        address = resolve_host(host)
        self._reach, self._is_loopback = describe_reach(address), is_loopback(address)
        self.connections: Connections = Connections(address, port, self._converse, scheme=self.scheme)
        self.address: str = self.connections.address
        if api_token is None and not self._is_loopback:
            logger.warning(
                "%s is open to other machines and has no API token (--api-token): whoever reaches it may ask",
                self.address,
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
        logger.info("%s is %s", self.address, self._reach)
        self.worker.start()
        try:
            try:
                while self.running and not self.worker.is_stopping:
                    self._turn()
                    if self.worker.ended and not self.worker.is_stopping:
                        raise RuntimeError("the computing thread died; its traceback stands above")
            finally:
                self.running = False
                self.worker.stop()
                # Others of the same model see it at their next turn, and end, too.
                while not self.worker.ended:
                    self._turn()
                self.worker.join()
                until = time.monotonic() + _LINGER_S
                self._turn(0)
                while (self._short or self._turns) and time.monotonic() < until:
                    self._turn(0)
        finally:
            self.close()

    def close(self) -> None:
        """Stop listening; replies under way get a second to leave."""
        self.connections.close(_LINGER_S)

    def handle(self, payload: bytes, *, from_loopback: bool = False) -> bytes:
        """Return the reply to one message, whatever it is: this never raises an `Exception`.

        Args:
            payload: The message's bytes.
            from_loopback: Whether it came from this machine, which may `kill` without a token.
        """
        request = attempt(lambda: self.read(payload, from_loopback=from_loopback))
        if isinstance(request, Failure):
            return self._reply("request", request)[0]
        return self._reply(request.endpoint, attempt(lambda: self.answer(request)), request)[0]

    def read(self, payload: bytes, *, from_loopback: bool = False) -> Request:
        """Decode and check a message, up to what its endpoint expects of `data`.

        Raises:
            RequestError: Too long, not a map, a wrong token or type, an unknown endpoint or option.
            gr00t.serving.wires.n1_5.WireError: Not decodable.
        """
        steps = self._reader.look_at(payload, len(payload), from_loopback)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                request: Request = end.value
                return Request(request.endpoint, request.input(), request.options)

    def answer(self, request: Request) -> Any:
        """Call the endpoint of a checked request and return its result."""
        return self._endpoints[request.endpoint].answer(request)

    def _turn(self, timeout_s: float = _LOOK_UP_S) -> None:
        """Wait for something to do; go on with some messages and send the answers that are ready."""
        for connection in self.connections.poll(0 if self._short or self._turns else timeout_s):
            length = sum(map(len, connection.inbox[0].parts))
            line = self._short if length <= _SHORT_BYTES else self._turns
            line.append((connection, self._take_in(connection)))
        # At least one step of either kind, however long it takes: neither can keep the other waiting.
        for line in (self._short, self._turns):
            until = time.monotonic() + _TURN_S
            while line:
                self._step(*line.popleft())
                self._send_ready()
                if time.monotonic() >= until:
                    break
        self._send_ready()

    def _send_ready(self) -> None:
        while self._replies:
            connection, parts, answered = self._replies.popleft()
            connection.pending -= answered
            self.connections.send(connection, parts)

    def _step(self, connection: Connection, task: Iterator[None]) -> None:
        """Go on with a connection's messages, and let it line up again if there is more to do."""
        if connection.is_gone:
            return
        paused = attempt(partial(next, task, _DONE))
        if isinstance(paused, Failure):
            self._surprises.log(
                logging.ERROR, "a message of %s failed", connection.name, exc_info=paused.error
            )
            self.connections.drop(connection)
        elif paused is not _DONE:
            self._turns.append((connection, task))

    def _take_in(self, connection: Connection) -> Iterator[None]:
        """Answer the messages of a connection at once, or give them to the worker."""
        while connection.inbox and not connection.is_clogged:
            yield from self._take_message(connection, connection.inbox[0])
            if connection.is_gone:
                return
            connection.inbox.popleft()
            yield
        self.connections.resume(connection)

    def _converse(self) -> Conversation:
        """Begin to talk with a new peer."""
        return ZmtpConversation(self.max_message_bytes)

    def _take_message(self, connection: Connection, message: Message) -> Iterator[None]:
        """Answer one message, or give it to the worker, who answers it later; pause now and then."""
        body_at = message.parts.index(b"") + 1 if b"" in message.parts else 0
        envelope = message.parts[:body_at]
        if envelope and max(map(len, envelope)) <= MAX_ENVELOPE_PART_BYTES:
            yield from self._begin(connection, envelope, self._accept(connection, envelope, message))
        else:
            self._refusals.log(
                logging.WARNING,
                "message without an empty part before its content dropped: the sender is no REQ client",
            )

    def _begin(
        self, connection: Connection, envelope: list[bytes], steps: Iterator[list[bytes] | None]
    ) -> Iterator[None]:
        """Go through the steps of a message, which yield None at each pause, and at last its reply if any."""
        while True:
            outcome = attempt(partial(next, steps, _DONE))
            if outcome is not None:
                break
            yield
        if outcome is not _DONE:
            parts = outcome if isinstance(outcome, list) else self._reply("request", outcome)
            self._replies.append((connection, [*envelope, *parts], 0))

    def _accept(
        self, connection: Connection, envelope: list[bytes], message: Message
    ) -> Iterator[list[bytes] | None]:
        body = message.parts[len(envelope) :]
        if len(body) != 1:
            raise RequestError(f"request: expected one message part, got {len(body)}")
        if not self.running:
            raise stopping()
        length = message.too_long or len(body[0])
        request = yield from self._reader.look_at(body[0], length, connection.from_loopback)
        yield from self._hand_over(connection, envelope, request, len(body[0]))

    def _hand_over(
        self, connection: Connection, envelope: list[bytes], request: Request, size: int
    ) -> Iterator[list[bytes]]:
        """Yield the reply to a checked request, unless the worker will deliver it."""
        endpoint = self._endpoints[request.endpoint]
        if endpoint.immediate:
            yield self._reply(request.endpoint, attempt(lambda: endpoint.answer(request)), request)
        else:
            self.worker.submit(QueuedRequest(request, endpoint, envelope, size, self._deliver, connection))
            connection.pending += 1

    def _deliver(self, job: QueuedRequest, outcome: Any) -> None:
        """Queue the reply to a job and wake the loop; the worker calls this in its own thread."""
        assert isinstance(job.sender, Connection)
        reply = self._reply(job.request.endpoint, outcome, job.request)
        self._replies.append((job.sender, [*job.envelope, *reply], 1))
        self.connections.wake()

    def _reply(self, name: str, outcome: Any, request: Request | None = None) -> list[bytes]:
        """Return the parts of the reply that says a result or a Failure, and log the latter.

        Args:
            name: What failed, for the log.
            outcome: The result or Failure.
            request: What it answers, unless that could not even be read.
        """
        reply = outcome if isinstance(outcome, Failure) else attempt(lambda: wire.pack(outcome))
        return [wire.pack({"error": self._tell(name, reply)}) if isinstance(reply, Failure) else reply]

    def _tell(self, name: str, failure: Failure) -> str:
        """Log a failure; return what its sender is told."""
        if isinstance(failure.error, UnavailableError):
            pass  # the worker says so once, not for every message of a flood
        elif failure.is_refusal:
            self._refusals.log(logging.WARNING, "%s refused: %.500s", name, failure.text)
        else:
            self._surprises.log(logging.ERROR, "%s failed", name, exc_info=failure.error)
        text = failure.text
        if len(text) > _MAX_ERROR_CHARACTERS:
            text = f"{text[:_MAX_ERROR_CHARACTERS]}... ({len(text)} characters)"
        # It may quote bytes that are no UTF-8; the reply must be packable whatever it says.
        return text.encode("utf-8", "replace").decode()

    def _handle_ping(self) -> dict[str, str]:
        return {"status": "ok", "message": "Server is running"}

    def _kill_server(self) -> None:
        logger.info("stopping: kill was called")
        self.running = False
