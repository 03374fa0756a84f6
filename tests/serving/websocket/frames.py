"""WebSocket's bytes by hand, for peers that do what no library does."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost:8000\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
TEXT, BINARY, CLOSE, PING = 1, 2, 8, 9


@dataclass(frozen=True)
class Frame:
    opcode: int
    data: bytes


def masked(opcode: int, data: bytes, fin: bool = True) -> bytes:
    """Return a frame as a client sends it, with a mask that changes nothing."""
    head = bytes([(0x80 if fin else 0) | opcode])
    if len(data) < 126:
        size = bytes([0x80 | len(data)])
    elif len(data) < 65_536:
        size = bytes([0x80 | 126]) + len(data).to_bytes(2, "big")
    else:
        size = bytes([0x80 | 127]) + len(data).to_bytes(8, "big")
    return head + size + bytes(4) + data


def spoken(port: int, sent: bytes, finish: bool = True, timeout: float = 20) -> tuple[bytes, list[Frame]]:
    """Send bytes after connecting; return the head and the frames that came before the end."""
    got = b""
    with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", port), timeout) as tcp:
        tcp.sendall(sent)
        if finish:
            tcp.shutdown(socket.SHUT_WR)
        while more := tcp.recv(65_536):
            got += more
    head, _, rest = got.partition(b"\r\n\r\n")
    return head, frames(rest) if head.startswith(b"HTTP/1.1 101") else []


def frames(data: bytes) -> list[Frame]:
    """Take apart what a server has sent."""
    found = []
    while len(data) >= 2:
        assert not data[1] & 0x80  # a server masks nothing
        size, at = data[1] & 127, 2
        if size == 126:
            size, at = int.from_bytes(data[2:4], "big"), 4
        elif size == 127:
            size, at = int.from_bytes(data[2:10], "big"), 10
        if len(data) < at + size:
            break
        found.append(Frame(data[0] & 15, data[at : at + size]))
        data = data[at + size :]
    return found
