"""Mutated requests over HTTP, and the longest bodies that there are, beside a good client.

Oracle: every good answer is right, the server lives and holds nothing afterwards, and its health is told
while it reads.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from gr00t.serving.http.server import HTTPInferenceServer
from tests.serving.doubling_policy import DoublingPolicy
from tests.serving.http.http_sockets import as_json_numpy, ask, doubled, number, request_bytes, serving_http

SLOWEST_S = 3.0
PIECES = [
    b"\r\n",
    b"\r\n\r\n",
    b"\0",
    b": ",
    b"9" * 30,
    b"{",
    b"[",
    b'"',
    b"\xff\xfe",
    b"Expect: 100-continue\r\n",
]
PIECES += [
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"Host: evil\r\n",
]


def mutated(rng: random.Random, request: bytes) -> bytes:
    """A request with up to four bytes or pieces changed, lost or added."""
    sent = bytearray(request)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(sent))
        kind = rng.randrange(5)
        if kind == 0:
            sent[at] = rng.randrange(256)
        elif kind == 1 and len(sent) > 40:
            del sent[at : at + rng.randint(1, 20)]
        elif kind == 2:
            sent[at:at] = rng.randbytes(rng.randint(1, 10))
        elif kind == 3:
            sent[at:at] = rng.choice(PIECES)
        elif at > 20:
            del sent[at:]
    return bytes(sent)


@contextlib.contextmanager
def beside_a_good_client(
    figure: Callable[[str], None], what: list[str]
) -> Iterator[tuple[HTTPInferenceServer, int]]:
    end = threading.Event()
    slowest, right, asked = 0.0, 0, 0

    def good(port: int) -> None:
        nonlocal slowest, right, asked
        while not end.is_set():
            asked += 1
            started = time.monotonic()
            ask(port, path="/health", method="GET")
            slowest = max(slowest, time.monotonic() - started)
            right += doubled(ask(port, number(asked / 3))) == 2 * (asked / 3)

    with serving_http(DoublingPolicy()) as (server, port):
        client = threading.Thread(target=good, args=[port])
        client.start()
        try:
            yield server, port
        finally:
            end.set()
            client.join(30)
        until = time.monotonic() + 5
        while server.connections.count and time.monotonic() < until:
            time.sleep(0.02)
        assert server.running
        assert (server.connections.held, server.connections.count) == (0, 0)
    figure(
        f"{', '.join(what)}; {right} of {asked} good answers right, slowest health {1000 * slowest:.0f} ms"
    )
    assert right == asked > 0
    assert slowest < SLOWEST_S


def test_mutated_requests_get_their_replies(
    blows: Callable[[int, int], int], figure: Callable[[str], None]
) -> None:
    rng = random.Random(19)
    plain = [
        request_bytes(1, number(3)),
        request_bytes(1, b"", path="/health", method="GET"),
        request_bytes(1, {"encoded": json.dumps(number(2))}, path="/act?seed=7"),
        request_bytes(1, b"5\r\nabcde\r\n0\r\n\r\n", Transfer_Encoding="chunked", Content_Length=""),
    ]
    replies: Counter[str] = Counter()
    what: list[str] = []
    count = blows(300, 20_000)
    with beside_a_good_client(figure, what) as (_, port):
        for _ in range(count):
            got = b""
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 10) as tcp:
                tcp.sendall(mutated(rng, rng.choice(plain)))
                tcp.shutdown(socket.SHUT_WR)
                got = tcp.recv(65_536)
            replies[got[9:12].decode("latin1") or "none"] += 1
        what += [f"{count} requests", f"replies {dict(sorted(replies.items()))}"]
    assert replies["400"] > count / 10  # many are told what was wrong


BODIES: dict[str, Callable[[int], bytes]] = {
    "numbers": lambda size: b'{"observation":[' + b"1.25," * min(size // 5, 990_000) + b"1]}",
    "lists": lambda size: b'{"observation":[' + b"[]," * min(size // 3, 490_000) + b"1]}",
    "keys": lambda size: json.dumps(
        {"observation": {f"k{i}": i for i in range(min(size // 9, 49_000))}}
    ).encode(),
    "text": lambda size: b'{"observation":"' + b"x" * size + b'"}',
    "escapes": lambda size: b'{"observation":"' + rb"\u00e9" * (size // 6) + b'"}',
    "array": lambda size: json.dumps(
        {"observation": as_json_numpy({"a": np.zeros(size * 3 // 4 - 100, np.uint8)})}
    ).encode(),
    "spaces": lambda size: b'{"observation":' + b" " * size + b"1}",
    "deep": lambda size: b'{"observation":' + b"[" * min(size, 900_000),
}


@pytest.mark.parametrize("name", BODIES)
def test_the_longest_bodies(
    name: str, blows: Callable[[int, int], int], figure: Callable[[str], None]
) -> None:
    body = BODIES[name](blows(2_000_000, 60_000_000))
    what = [f"{name}, {len(body) / 1e6:.0f} MB"]
    with beside_a_good_client(figure, what) as (_, port):
        assert ask(port, body).status in (400, 422, 500)  # the stub looks for state.x without asking first
