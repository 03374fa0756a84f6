"""HTTP/1.1 on the server's side of one connection: bytes in, requests out, and no socket.

The library h11 reads and writes the protocol. Here is what it leaves open: a request is judged by its head
alone, before any of its body is kept; of a body no more is kept than a message may have; one request at a
time. The reply to what is refused leaves at once, while the rest still comes and is thrown away, because a
client that is hung up on in the middle of sending reads no reply.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

import h11

from gr00t.serving.sockets.zmtp import MAX_SKIPPED_BYTES, Message, PeerError
from gr00t.serving.wires.foreign import http_refusal, name_http_stranger

# Read at once of what is not a body of a known length: a body in chunks of one byte takes 4 ms for so
# many (AMD EPYC).
_SHORT_BYTES = 4096


@dataclass(frozen=True)
class Head:
    """What a request says before its body.

    Attributes:
        method: GET, POST and so on.
        path: without the query.
        query: what follows the question mark.
        headers: by their names in small letters; of one that comes twice, the last.
    """

    method: str
    path: str
    query: str
    headers: dict[str, str]


@dataclass(frozen=True)
class Refusal:
    """Why a request is not taken.

    Attributes:
        status: HTTP's number for it.
        text: what the sender is told.
        headers: what goes with that status, as `Name: value`.
    """

    status: int
    text: str
    headers: tuple[str, ...] = ()


@dataclass(frozen=True)
class HttpMessage(Message):
    """One request: its body is the only part, and empty if it is refused."""

    head: Head = Head("", "", "", {})
    refusal: Refusal | None = None


class HttpConversation:
    """What one peer has sent so far; see `gr00t.serving.sockets.connection.Conversation`."""

    first_of_reply = b"H"
    may_listen_on = True

    def __init__(self, max_bytes: int, judge: Callable[[Head], Refusal | None]) -> None:
        """Begin; a body of over `max_bytes` is not kept, nor is one whose head `judge` does not let pass."""
        self.replies = bytearray()
        self.is_open = False
        self._max_bytes = max_bytes
        self._judge = judge
        self._peer = h11.Connection(h11.SERVER)
        self._head = Head("", "", "", {})
        self._length: int | None = None  # of the present body, where its head tells
        self._came = 0  # of it, kept or not
        self._body = bytearray()
        self._is_refused = False

    @property
    def is_over(self) -> bool:
        """Whether nothing is to follow: the last reply was sent, and what it answers has come to its end."""
        return self._peer.our_state is h11.MUST_CLOSE and self._peer.their_state is not h11.SEND_BODY

    @property
    def expected(self) -> int:
        """How many bytes may be read at once."""
        if self._peer.their_state is not h11.SEND_BODY or self._length is None:
            return _SHORT_BYTES
        return max(self._length - self._came, 1)

    @property
    def held(self) -> int:
        """How many bytes of an unfinished request are kept."""
        return len(self._body) + len(self._peer.trailing_data[0])

    def receive(self, data: bytes) -> list[Message]:
        """Take the next bytes; return the request that they complete, or that is refused.

        Raises:
            PeerError: this is no HTTP/1.1, or a second request before the first was answered.
        """
        if not self.is_open and (why := name_http_stranger(data)) is not None:
            raise PeerError(why, http_refusal(why))
        messages: list[Message] = []
        try:
            self._peer.receive_data(data)
            while True:
                event = self._peer.next_event()
                if isinstance(event, h11.Request):
                    self._begin(event, messages)
                elif isinstance(event, h11.Data):
                    self._take(bytes(event.data), messages)
                elif isinstance(event, h11.EndOfMessage):
                    self._end(messages)
                else:
                    break
        except h11.RemoteProtocolError as error:
            raise PeerError(f"it is no HTTP client: {error}", http_refusal(str(error))) from None
        if event is h11.PAUSED and self._peer.trailing_data[0]:
            raise PeerError("it sent more before its request was answered")
        return messages

    def reply(self, parts: list[bytes]) -> bytes:
        """Return the bytes of a reply: a status, headers as `Name: value`, and last the content."""
        status, *lines, content = parts
        headers: list[tuple[bytes, bytes]] = []
        for line in lines:
            name, _, value = line.partition(b": ")
            headers.append((name, value))
        headers.append((b"Content-Length", str(len(content)).encode()))
        if self._peer.their_state is h11.SEND_BODY:
            headers.append((b"Connection", b"close"))
        reason = HTTPStatus(int(status)).phrase
        response = h11.Response(status_code=int(status), headers=headers, reason=reason)
        sent = self._peer.send(response) or b""
        if self._head.method != "HEAD":
            sent += self._peer.send(h11.Data(data=content)) or b""
        sent += self._peer.send(h11.EndOfMessage()) or b""
        if self._peer.our_state is h11.DONE and self._peer.their_state is h11.DONE:
            self._peer.start_next_cycle()
        return sent

    def _begin(self, request: h11.Request, messages: list[Message]) -> None:
        self.is_open = True
        headers = {name.decode("latin1"): value.decode("latin1") for name, value in request.headers}
        path, _, query = request.target.decode("latin1").partition("?")
        self._head = Head(request.method.decode("latin1"), path, query, headers)
        length = headers.get("content-length")
        self._length = None if length is None else int(length)
        self._came, self._is_refused = 0, False
        refusal = self._judge(self._head)
        if length is not None and "transfer-encoding" in headers:
            refusal = Refusal(400, "both Content-Length and Transfer-Encoding: where does the body end?")
        if refusal is None and self._length is not None and self._length > self._max_bytes:
            refusal = self._too_long(self._length)
        if refusal is not None:
            self._refuse(refusal, messages)
        elif self._peer.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[])
            self.replies += self._peer.send(go_on) or b""

    def _take(self, data: bytes, messages: list[Message]) -> None:
        self._came += len(data)
        if self._came > MAX_SKIPPED_BYTES:
            raise PeerError(f"a body of more than {MAX_SKIPPED_BYTES} bytes")
        if self._came > self._max_bytes and not self._is_refused:
            self._refuse(self._too_long(self._came), messages)
        if not self._is_refused:
            self._body += data

    def _end(self, messages: list[Message]) -> None:
        if not self._is_refused:
            messages.append(HttpMessage([bytes(self._body)], head=self._head))
        self._body = bytearray()

    def _refuse(self, refusal: Refusal, messages: list[Message]) -> None:
        self._is_refused = True
        self._body = bytearray()
        messages.append(HttpMessage([b""], head=self._head, refusal=refusal))

    def _too_long(self, length: int) -> Refusal:
        return Refusal(
            413,
            f"message of {length} bytes; at most {self._max_bytes} are accepted: send fewer samples, or "
            "smaller frames, in each request",
        )
