"""ZeroMQ's protocol on the server's side of one connection: bytes in, messages out, and no socket.

It is ZMTP 3 with the mechanism NULL, what every ZeroMQ from version 4 (2013) on speaks. A connection begins
with a greeting of 64 bytes and a READY command in each direction; then come frames:

    flags (1 byte: 1 = more parts follow, 2 = long, 4 = command) | size (1 byte; long: 8 bytes) | content

The library itself is not used on this side, because it cannot say no: it holds the parts of an unfinished
message without a bound, takes the first bytes of a web page's request for a peer of 2010, and does not tell
which connection a message came over or that its sender is gone. Here whoever does not begin like ZMTP 3 is
hung up on at his first wrong byte, and what one connection can make us hold is bounded. A message that is too
long is answered as soon as that is known, while the rest of it still comes and is thrown away: a client that
were hung up on would take us for dead.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from gr00t.serving.wires.foreign import HTTP_METHODS, http_refusal, name_stranger

# An empty part and the request are two; proxies between client and server add one each.
MAX_PARTS = 16
_MAX_COMMAND_BYTES = 4096
# Of a message that is too long so much is read and thrown away; msgpack itself has no longer values.
MAX_SKIPPED_BYTES = 4 * 1024**3
_SIGNATURE_BYTES, _GREETING_BYTES = 10, 64
_MORE, _LONG, _COMMAND = 1, 2, 4
# A reply begins with the envelope of its request, of which no part may be longer: ZeroMQ's own identities.
MAX_ENVELOPE_PART_BYTES = 255
FIRST_OF_REPLY = bytes((_MORE,))
_MAY_ASK = (b"REQ", b"DEALER", b"ROUTER")  # the kinds of socket that a ROUTER talks to


class PeerError(Exception):
    """The peer does not speak this protocol or goes beyond a bound; the text says how. Hang up.

    Attributes:
        farewell: what may be sent to it before, in its own language.
    """

    def __init__(self, why: str, farewell: bytes = b"") -> None:
        """Say why."""
        super().__init__(why)
        self.farewell = farewell


@dataclass(frozen=True)
class Message:
    """One whole message, or the beginning of one that is too long.

    Attributes:
        parts: its parts in order; of one that is too long up to that part, which is empty.
        too_long: as far as is known the length of a message that is too long to be kept, or 0.
    """

    parts: list[bytes]
    too_long: int = 0


def frame(content: bytes, flags: int = 0) -> bytes:
    """Return one frame."""
    if len(content) < 256:
        return bytes((flags, len(content))) + content
    return struct.pack(">BQ", flags | _LONG, len(content)) + content


def frames(parts: list[bytes]) -> bytes:
    """Return the frames of one message."""
    return b"".join(frame(part, _MORE) for part in parts[:-1]) + frame(parts[-1])


def greeting() -> bytes:
    """Return the 64 bytes with which either side begins."""
    return (b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"NULL").ljust(_GREETING_BYTES, b"\0")


def ready(socket_type: bytes) -> bytes:
    """Return the frame that ends a side's part of the handshake."""
    properties = {b"Socket-Type": socket_type, b"Identity": b""}
    written = b"".join(
        bytes((len(name),)) + name + struct.pack(">I", len(value)) + value
        for name, value in properties.items()
    )
    return frame(b"\x05READY" + written, _COMMAND)


class ZmtpConversation:
    """What one peer has sent so far.

    Attributes:
        replies: what the protocol itself has to answer; the owner sends and empties it.
        is_open: whether the handshake is over.
        is_over: whether it ends with the last reply; here that is for the peer to say.
    """

    is_over = False
    may_listen_on = True
    first_of_reply = FIRST_OF_REPLY

    def __init__(self, max_bytes: int) -> None:
        """Begin; a message of over `max_bytes` is not kept."""
        # The greeting follows the peer's first byte: one that speaks HTTP would take it for the reply.
        self.replies = bytearray()
        self.is_open = False
        self._max_bytes = max_bytes
        self._greeted = False
        self._head = bytearray()  # of the greeting or of a frame, as far as it has come
        self._flags = 0
        self._left = 0  # bytes of the frame that are still to come
        self._part = bytearray()
        self._skipping = False
        self._parts: list[bytes] = []
        self._count = 0  # parts of the message so far
        self._total = 0  # bytes of the message so far, its present frame included
        self._kept = 0
        self._is_refused = False  # the message is too long, and it was passed on as such

    @property
    def expected(self) -> int:
        """How many bytes of the present part are still to come."""
        return self._left

    @property
    def held(self) -> int:
        """How many bytes of an unfinished message are kept."""
        return len(self._head) + self._kept

    def reply(self, parts: list[bytes]) -> bytes:
        """Return the bytes of a reply."""
        return frames(parts)

    def receive(self, data: bytes) -> list[Message]:
        """Take the next bytes; return the messages that they complete.

        Raises:
            PeerError: this is no ZMTP 3, or too much.
        """
        messages: list[Message] = []
        view = memoryview(data)
        while view:
            if not self._greeted:
                view = self._take_greeting(view)
            elif self._left:
                taken = view[: self._left]
                if not self._skipping:
                    self._part += taken
                    self._kept += len(taken)
                self._left -= len(taken)
                view = view[len(taken) :]
                if not self._left:
                    self._end_frame(messages)
            else:
                view = self._take_header(view, messages)
        return messages

    def _take(self, view: memoryview, size: int) -> memoryview:
        """Move bytes to the head until it has `size`; return what is left of the view."""
        count = size - len(self._head)
        self._head += view[:count]
        return view[count:]

    def _take_greeting(self, view: memoryview) -> memoryview:
        if not self._head:
            self.replies += greeting()
        view = self._take(view, _GREETING_BYTES)
        head = self._head
        if head[0] != 0xFF or (len(head) >= _SIGNATURE_BYTES and head[9] != 0x7F):
            raise _stranger(bytes(head))
        if len(head) > _SIGNATURE_BYTES and head[10] < 3:
            raise PeerError("it speaks the protocol of a ZeroMQ before version 4")
        if len(head) == _GREETING_BYTES:
            mechanism = bytes(head[12:32]).rstrip(b"\0")
            if mechanism != b"NULL":
                raise PeerError(f"it asks for the mechanism {mechanism!r}, this server has NULL")
            self._greeted = True
            self._head.clear()
            self.replies += ready(b"ROUTER")
        return view

    def _take_header(self, view: memoryview, messages: list[Message]) -> memoryview:
        if not self._head:
            view = self._take(view, 1)
        flags = self._head[0]
        if flags & ~(_MORE | _LONG | _COMMAND) or (flags & _COMMAND and flags & _MORE):
            raise PeerError(f"a frame has the flags {flags:#x}")
        size_bytes = 8 if flags & _LONG else 1
        view = self._take(view, 1 + size_bytes)
        if len(self._head) == 1 + size_bytes:
            self._begin_frame(flags, int.from_bytes(self._head[1:], "big"), messages)
            self._head.clear()
            if not self._left:
                self._end_frame(messages)
        return view

    def _begin_frame(self, flags: int, size: int, messages: list[Message]) -> None:
        self._flags, self._left, self._skipping = flags, size, False
        if flags & _COMMAND:
            if size > _MAX_COMMAND_BYTES:
                raise PeerError(f"a command of {size} bytes")
            return
        if not self.is_open:
            raise PeerError("a message before the handshake was over")
        if self._count == MAX_PARTS:
            raise PeerError(f"a message of more than {MAX_PARTS} parts")
        self._count += 1
        self._total += size
        if self._total > MAX_SKIPPED_BYTES:
            raise PeerError(
                f"a message of {self._total} bytes or more; at most {self._max_bytes} are accepted"
            )
        if self._total > self._max_bytes and not self._is_refused:
            self._is_refused = True
            messages.append(Message([*self._parts, b""], self._total))
            self._parts = []
            self._kept = 0
        self._skipping = self._is_refused

    def _end_frame(self, messages: list[Message]) -> None:
        content = bytes(self._part)
        self._part = bytearray()
        if self._flags & _COMMAND:
            self._kept -= len(content)
            self._command(content)
            return
        if not self._is_refused:
            self._parts.append(content)
        if not self._flags & _MORE:
            if not self._is_refused:
                messages.append(Message(self._parts))
            self._parts = []
            self._count = self._total = self._kept = 0
            self._is_refused = False

    def _command(self, content: bytes) -> None:
        name_end = 1 + content[0] if content else 0
        name, rest = content[1:name_end], content[name_end:]
        if not self.is_open:
            kind = _properties(rest).get(b"socket-type", b"") if name == b"READY" else b""
            if kind not in _MAY_ASK:
                raise PeerError(f"expected a REQ or DEALER socket, it introduced itself by {content[:60]!r}")
            self.is_open = True
        elif name == b"PING":
            self.replies += frame(b"\x04PONG" + rest[2:18], _COMMAND)


def _stranger(begin: bytes) -> PeerError:
    why = name_stranger(begin)
    if why is None:
        return PeerError(f"it is no ZeroMQ peer: it began with {begin[:16]!r}")
    return PeerError(why, http_refusal(why) if begin.startswith(HTTP_METHODS) else b"")


def _properties(written: bytes) -> dict[bytes, bytes]:
    """Return the properties of a READY command, with their names in small letters.

    Raises:
        PeerError: they are cut off.
    """
    properties = {}
    at = 0
    while at < len(written):
        name_end = at + 1 + written[at]
        value_at = name_end + 4
        value_end = value_at + int.from_bytes(written[name_end:value_at], "big")
        if value_end > len(written):
            raise PeerError("its READY command is cut off")
        properties[written[at + 1 : name_end].lower()] = written[value_at:value_end]
        at = value_end
    return properties
