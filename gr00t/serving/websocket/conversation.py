"""WebSocket on the server's side of one connection: bytes in, messages out, and no socket.

The library websockets reads and writes the protocol (its part without input and output). Here is what it
leaves open: a handshake is judged by its head; a plain `GET` may ask for the server's health; nothing is
compressed, so that no message is longer than it came; how much is kept of what came too early is bounded.
"""

from __future__ import annotations

import collections
import logging
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from websockets.frames import Frame, Opcode
from websockets.http11 import Request as Handshake
from websockets.protocol import State
from websockets.server import ServerProtocol

from gr00t.serving.sockets.zmtp import Message, PeerError
from gr00t.serving.websocket.session import Session, WebSocketMessage
from gr00t.serving.wires.foreign import HTTP_METHODS, http_refusal, name_http_stranger

# Read at once while nothing long is under way: of frames of six bytes 680, which take 5 ms (AMD EPYC).
_SHORT_BYTES = 4096
_LONG_BYTES = 32 * 1024
_MAX_HEAD_BYTES = 32 * 1024
_END_OF_HEAD = b"\r\n\r\n"
_MAX_REASON_BYTES = 120  # of a close frame
MAX_WAITING = 64

# Any stranger may provoke the library's lines; what matters of them is in our own.
_SILENT = logging.Logger(f"{__name__}.library", logging.CRITICAL + 1)


@dataclass(frozen=True)
class HttpAnswer:
    """What is said instead of a handshake.

    Attributes:
        status: HTTP's number for it.
        text: the content.
        kind: its type.
    """

    status: int
    text: str
    kind: str = "text/plain; charset=utf-8"


class WebSocketConversation:
    """What one peer has sent so far; see `gr00t.serving.sockets.connection.Conversation`.

    Attributes:
        session: what the wire knows of the peer.
        waiting: messages that came while an earlier one is computed.
        is_taking: whether somebody goes through these at present.
    """

    first_of_reply = b""
    may_listen_on = False  # the protocol has its own words for parting

    def __init__(
        self, max_bytes: int, judge: Callable[[Handshake], HttpAnswer | None], session: Session
    ) -> None:
        """Begin.

        Args:
            max_bytes: So long may a message be.
            judge: Returns what a request gets in place of a handshake, or None.
            session: What the peer is talked with.
        """
        self.replies = bytearray()
        self.waiting: collections.deque[WebSocketMessage] = collections.deque()
        self.is_taking = False
        self._max_bytes = max_bytes
        self._judge = judge
        self.session = session
        self._begun = bytearray()  # of a message in several frames
        self._is_text = False
        self._head = bytearray()
        self._peer = ServerProtocol(max_size=max_bytes, logger=_SILENT)

    @property
    def is_open(self) -> bool:
        """Whether the handshake is over."""
        return self._peer.state is not State.CONNECTING

    @property
    def is_over(self) -> bool:
        """Whether nothing is to follow."""
        return self._peer.close_expected() or self._peer.state is State.CLOSED

    @property
    def expected(self) -> int:
        """How many bytes may be read at once: more while a long frame is under way."""
        return min(max(_SHORT_BYTES, self._unread), _LONG_BYTES)

    @property
    def held(self) -> int:
        """How many bytes are kept."""
        return len(self._head) + self._unread + len(self._begun) + self.waiting_bytes

    @property
    def waiting_bytes(self) -> int:
        """How many bytes came too early."""
        return sum(len(message.parts[0]) for message in self.waiting)

    @property
    def _unread(self) -> int:
        return len(self._peer.reader.buffer)

    def receive(self, data: bytes) -> list[Message]:
        """Take the next bytes; return the messages that they complete.

        Raises:
            PeerError: this is no WebSocket, or too much.
        """
        # The library is given the head alone: it would read what follows as if nobody had to answer first.
        if not self.is_open:
            data = self._take_head(data)
            if not data:
                return []
        self._peer.receive_data(data)
        messages: list[Message] = []
        for event in self._peer.events_received():
            if isinstance(event, Frame):
                self._take(event, messages)
        self._flush()
        if self._peer.parser_exc is not None:
            farewell = bytes(self.replies)
            self.replies.clear()
            raise PeerError(f"it broke the protocol: {self._peer.parser_exc}", farewell)
        return messages

    def reply(self, parts: list[bytes]) -> bytes:
        """Return the bytes of a reply: `binary` or `text`, the content, and the reason if it is the last."""
        kind, content, *reason = parts
        if self._peer.state is not State.OPEN:
            return b""
        if kind == b"text":
            self._peer.send_text(content)
        elif kind == b"binary":
            self._peer.send_binary(content)
        if reason:
            self._close(int(reason[0]), reason[1])
        self._flush()
        sent = bytes(self.replies)
        self.replies.clear()
        return sent

    def _close(self, code: int, reason: bytes) -> None:
        self._peer.send_close(code, reason[:_MAX_REASON_BYTES].decode("utf-8", "ignore"))

    def _take_head(self, data: bytes) -> bytes:
        """Take what belongs to the handshake, and answer it; return what follows."""
        if not self._head and (why := name_http_stranger(data)) is not None:
            raise PeerError(why, http_refusal(why))
        self._head += data
        end = self._head.find(_END_OF_HEAD) + len(_END_OF_HEAD)
        if end < len(_END_OF_HEAD):
            if len(self._head) > _MAX_HEAD_BYTES or not _may_be_http(bytes(self._head[:8])):
                raise _no_client("a long head without an end, or no request of HTTP")
            return b""
        self._peer.receive_data(bytes(self._head[:end]))
        rest = bytes(self._head[end:])
        self._head.clear()
        (handshake, *_) = self._peer.events_received() or (None,)
        if not isinstance(handshake, Handshake):
            raise _no_client(str(self._peer.handshake_exc))
        self._shake_hands(handshake)
        self._flush()
        return rest if self.is_open else b""

    def _shake_hands(self, handshake: Handshake) -> None:
        answer = self._judge(handshake)
        if answer is None:
            response = self._peer.accept(handshake)
        else:
            response = self._peer.reject(HTTPStatus(answer.status), answer.text + "\n")
            del response.headers["Content-Type"]
            response.headers["Content-Type"] = answer.kind
        self._peer.send_response(response)
        greeting = self.session.greeting if self.is_open else None
        if greeting is not None:
            self._peer.send_binary(greeting)

    def _take(self, frame: Frame, messages: list[Message]) -> None:
        if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            return
        if frame.opcode is not Opcode.CONT:
            self._is_text = frame.opcode is Opcode.TEXT
        self._begun += frame.data
        if frame.fin:
            messages.append(WebSocketMessage([bytes(self._begun)], is_text=self._is_text))
            self._begun = bytearray()

    def _flush(self) -> None:
        self.replies += b"".join(self._peer.data_to_send())


def _may_be_http(begin: bytes) -> bool:
    """Return whether a request may begin so."""
    return any(method.startswith(begin[: len(method)]) for method in HTTP_METHODS)


def _no_client(what: str) -> PeerError:
    why = f"it is no WebSocket client: {what}"
    return PeerError(why, http_refusal(why))
