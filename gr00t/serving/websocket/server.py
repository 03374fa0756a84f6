"""The server of a policy over WebSocket, whatever the wire: the other servers' loop, worker and bounds.

One message at a time: what a peer sends while its last question is computed waits, and its pings are answered
meanwhile, since the loop is not the thread that computes. A peer that is gone has its question dropped.

Web pages may not ask: a browser says by `Origin` that a page does, and none of the harnesses has one.
"""

from __future__ import annotations

import abc
import collections
import logging
import urllib.parse
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from websockets.http11 import Request as Handshake

from gr00t.serving.batching import QueuedRequest, stopping
from gr00t.serving.endpoints import Failure, Request, attempt
from gr00t.serving.robot import RobotInferenceServer
from gr00t.serving.sockets.connection import Connection, Conversation
from gr00t.serving.sockets.zmtp import Message
from gr00t.serving.tokens import token_of
from gr00t.serving.websocket.conversation import MAX_WAITING, HttpAnswer, WebSocketConversation
from gr00t.serving.websocket.session import Ask, Reply, Session, WebSocketMessage, last_words

_HEALTH = ("/health", "/healthz")
_SCHEMES = ("bearer", "api-key")
_GOING_AWAY = 1001
_INTERNAL_ERROR = 1011


class WebSocketServer(RobotInferenceServer, abc.ABC):
    """Serves a policy over WebSocket; for the arguments see `RobotInferenceServer`.

    With a token, every handshake must carry it: `Authorization: Api-Key TOKEN` (or Bearer), `X-API-Token`, or
    `?token=TOKEN` in the URL. `GET /health` and `GET /healthz` need none.
    """

    scheme = "ws"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._outcomes: collections.deque[tuple[Connection, str, Any]] = collections.deque()
        super().__init__(*args, **kwargs)

    def close(self) -> None:
        """Tell all peers that this server ends, and stop listening; see `BaseInferenceServer.close`."""
        self.connections.send_all(last_words(_GOING_AWAY, "the server was told to end"))
        super().close()

    @abc.abstractmethod
    def new_session(self) -> Session:
        """Begin to talk with a new peer, in the words of the wire."""

    def _converse(self) -> Conversation:
        return WebSocketConversation(self.max_message_bytes, self._judge, self.new_session())

    def _judge(self, handshake: Handshake) -> HttpAnswer | None:
        """Return what is said in place of a handshake, or None."""
        headers = {name.lower(): value for name, value in handshake.headers.raw_items()}
        path, _, query = handshake.path.partition("?")
        answer = None
        if "origin" in headers or headers.get("sec-fetch-site", "none") != "none":
            answer = HttpAnswer(HTTPStatus.FORBIDDEN, "web pages may not ask this server")
        elif path in _HEALTH and "upgrade" not in headers:
            return HttpAnswer(HTTPStatus.OK, '{"status": "ok"}', "application/json")
        elif not self._reader.is_token(_token(headers, query)):
            answer = HttpAnswer(
                HTTPStatus.UNAUTHORIZED,
                "Unauthorized: Invalid API token; send Authorization: Api-Key TOKEN, or ?token=TOKEN",
            )
        if answer is not None:
            self._refusals.log(logging.WARNING, "handshake refused: %s", answer.text)
        return answer

    def _take_message(self, connection: Connection, message: Message) -> Iterator[None]:
        conversation = _of(connection)
        assert isinstance(message, WebSocketMessage)
        size = conversation.waiting_bytes + len(message.parts[0])
        if len(conversation.waiting) >= MAX_WAITING or (
            conversation.waiting and size > self.max_message_bytes
        ):
            self._refusals.log(
                logging.WARNING, "hung up on %s: %d of its messages wait", connection.name, MAX_WAITING
            )
            self.connections.drop(connection)
            return
        conversation.waiting.append(message)
        if not (connection.pending or conversation.is_taking):
            yield from self._take_waiting(connection)

    def _take_waiting(self, connection: Connection) -> Iterator[None]:
        """Go through what a peer has sent, up to the next message that the worker has to answer."""
        conversation = _of(connection)
        conversation.is_taking = True
        while conversation.waiting and not connection.pending:
            message = conversation.waiting.popleft()
            yield from self._begin(connection, [], self._question(connection, message))
            yield
        conversation.is_taking = False

    def _question(self, connection: Connection, message: WebSocketMessage) -> Iterator[Reply | None]:
        """Go through a message; yield its reply, unless it has none or the worker will deliver it."""
        session = _of(connection).session
        try:
            if not self.running:
                raise stopping()
            step = yield from session.take(message)
            if isinstance(step, Ask):
                self._submit(connection, step, len(message.parts[0]))
                return
        except ValueError as error:
            yield session.tell(self._tell("message", Failure(error)))
            return
        if step is not None:
            yield step

    def _submit(self, connection: Connection, ask: Ask, size: int) -> None:
        endpoint = self._endpoints["get_action"]
        request = Request("get_action", ask.observation, ask.options)
        self.worker.submit(QueuedRequest(request, endpoint, [], size, self._deliver, connection))
        connection.pending += 1

    def _deliver(self, job: QueuedRequest, outcome: Any) -> None:
        assert isinstance(job.sender, Connection)
        self._outcomes.append((job.sender, job.request.endpoint, outcome))
        self.connections.wake()

    def _send_ready(self) -> None:
        while self._outcomes:
            connection, name, outcome = self._outcomes.popleft()
            connection.pending -= 1
            if connection.is_gone:
                continue
            conversation = _of(connection)
            self._replies.append((connection, self._words(conversation.session, name, outcome), 0))
            if conversation.waiting and not conversation.is_taking:
                self._turns.append((connection, self._take_waiting(connection)))
        super()._send_ready()

    def _words(self, session: Session, name: str, outcome: Any) -> Reply:
        """Return a result or a Failure in the words of the wire."""
        reply = outcome if isinstance(outcome, Failure) else attempt(lambda: session.answer(outcome))
        return session.tell(self._tell(name, reply)) if isinstance(reply, Failure) else reply

    def _reply(self, name: str, outcome: Any, request: Request | None = None) -> list[bytes]:
        """Return the last words after an error that no wire knows: one of this program's."""
        return last_words(_INTERNAL_ERROR, self._tell(name, outcome))


def _of(connection: Connection) -> WebSocketConversation:
    assert isinstance(connection.conversation, WebSocketConversation)
    return connection.conversation


def _token(headers: dict[str, str], query: str) -> bytes | None:
    """Return the token that a handshake carries in its headers or else in its URL."""
    sent = token_of(headers, _SCHEMES)
    if sent is not None:
        return sent
    fields = [field.partition("=") for field in query.split("&")]
    given = [value for name, _, value in fields if name == "token"]
    # A plus is one: URLs of clients that pass them on as they are written say nothing of forms.
    raw = given[0].encode("latin1", "surrogateescape") if len(given) == 1 else None
    return None if raw is None else urllib.parse.unquote_to_bytes(raw)
