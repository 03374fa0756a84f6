"""What else a peer may be speaking, told by its first bytes: so that an error can say what to do about it.

Nothing here decodes anything; a pickle above all is recognised and never read.

This file runs inside the simulator's process, too: Python 3.8, nothing but the standard library.
"""

from __future__ import annotations

HTTP_METHODS = (
    b"GET ",
    b"POST ",
    b"PUT ",
    b"HEAD ",
    b"DELETE ",
    b"OPTIONS ",
    b"PATCH ",
    b"CONNECT ",
    b"TRACE ",
)

_OLD_CLIENT = (
    "was the format of Isaac-GR00T clients before September 2025 and is refused, since unpickling runs code; "
    "take gr00t/eval/service.py of a later Isaac-GR00T N1.5, or this project's client"
)


def name_message(payload: bytes) -> str | None:
    """Return what a ZeroMQ message is that is no msgpack map, and what to do; None if that is not known."""
    if payload.startswith(b"PK\x03\x04"):
        return f"this message was written by torch.save, which {_OLD_CLIENT}"
    # Protocols 2 to 5; torch.save's form of before 2020 begins so, too.
    if len(payload) > 2 and payload[0] == 0x80 and 2 <= payload[1] <= 5:
        return f"this message is a pickle, which {_OLD_CLIENT}"
    if payload.startswith(b"\x93NUMPY"):
        return (
            "this message is a bare .npy file; send a msgpack map with endpoint and data, as our client does"
        )
    begin = payload[:64].lstrip()
    if begin[:1] in (b"{", b"[") and begin[1:2] not in (b"", b"\x00"):
        return (
            "this message is JSON text; over ZeroMQ requests are msgpack maps, as our client writes them; "
            "JSON is understood over HTTP, by a server started with --http-server"
        )
    if payload == b"ERROR":
        return (
            "this is the error reply of an Isaac-GR00T server of before September 2025, whose messages are "
            "pickles; start a later one, or this project's"
        )
    return None


def name_stranger(begin: bytes) -> str | None:
    """Return what a peer of the ZeroMQ port speaks instead, and what to do; None if that is not known."""
    if begin.startswith(HTTP_METHODS):
        return (
            "it speaks HTTP, and this is the ZeroMQ server; for HTTP start it with --http-server, for "
            "WebSocket with --wire vla-eval or --wire openpi"
        )
    if begin[:2] == b"\x16\x03":
        return "it speaks TLS, which this server does not; put a tunnel in front (docs/SECURITY.md)"
    return None


def name_http_stranger(begin: bytes) -> str | None:
    """Return what a peer of the HTTP port speaks instead, and what to do; None if it may speak HTTP."""
    if begin[:1] == b"\xff":
        return "it speaks ZeroMQ, and this is the HTTP server; for ZeroMQ start it without --http-server"
    if begin[:2] == b"\x16\x03":
        return "it speaks TLS, which this server does not; put a tunnel in front (docs/SECURITY.md)"
    return None


def http_refusal(why: str) -> bytes:
    """Return the reply to a stranger that speaks HTTP."""
    text = why.encode()
    head = (
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(text) + 1}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + text + b"\n"
