"""Mutated messages of the wires of other projects, beside a good client.

Oracle: whatever arrives, the good client's answers are right, vla-eval is answered at most once and with the
number that it sent, and the server lives and holds nothing afterwards.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq

from gr00t.serving.harnesses.openpi import OpenPiServer
from gr00t.serving.harnesses.vla_eval import VlaEvalServer
from gr00t.serving.n1_6 import N16InferenceServer
from gr00t.serving.robot import RobotInferenceServer
from tests.serving import test_n1_6 as n1_6
from tests.serving.harnesses import test_openpi as openpi
from tests.serving.harnesses import test_vla_eval as vla_eval
from tests.serving.recorded import MODALITY_CONFIG, STATE
from tests.serving.socket_helpers import raw
from tests.serving.websocket.frames import BINARY, CLOSE, HANDSHAKE, PING, TEXT, Frame, frames, masked, spoken
from tests.serving.websocket.peers import array, asked, client, message, running

SLOWEST_S = 3.0


class Doubling:
    """Answers with twice the x of the state, so that every answer tells whose it is."""

    def get_action(self, observations: dict[str, Any], *, seeds: Any = None) -> dict[str, Any]:
        x = np.asarray(observations["state.x"], np.float64)
        width = np.zeros((*x.shape[:-2], 16, 1), np.float32)
        return {f"action.{key}": width + (2 * x.reshape(-1)[0] if key == "x" else 0) for key in STATE}

    def get_modality_config(self) -> dict[str, Any]:
        return MODALITY_CONFIG


def ask_vla_eval(port: int, number: float) -> float:
    state = {**vla_eval.state(3, 0, 0), "data": np.array([number, 0, 0, 3, 0, 0, 0, 0.0]).tobytes()}
    with client(port) as ws:
        ws.send(message("episode_start", {"task": vla_eval.TASK}))
        reply = asked(ws, message("observation", vla_eval.observation(states=state), seq=5))
    assert (reply["type"], reply["seq"]) == ("action", 5)
    return float(array(reply["payload"]["actions"])[0])


def ask_openpi(port: int, number: float) -> float:
    with client(port) as ws:
        ws.recv(5)
        state = openpi.packed(np.array([number, 0, 0, 3, 0, 0, 0, 0.0]))
        return float(array(openpi.ask(ws, observation__state=state)["actions"])[0, 0])


def ask_n1_6(port: int, number: float) -> float:
    observation = n1_6.nested()
    observation["state"]["x"] = np.full((1, 1, 1), number, np.float32)
    actions, _ = n1_6.asked(port, n1_6.get_action(observation))
    return float(actions["x"][1].reshape(-1)[0])


WIRES: dict[str, tuple[type[RobotInferenceServer], Callable[[int, float], float]]] = {
    "vla-eval": (VlaEvalServer, ask_vla_eval),
    "openpi": (OpenPiServer, ask_openpi),
    "n1_6": (N16InferenceServer, ask_n1_6),
}


@contextlib.contextmanager
def beside_a_good_client(name: str, figure: Callable[[str], None], what: list[str]) -> Iterator[int]:
    kind, ask = WIRES[name]
    server = kind(Doubling(), port=0)
    end = threading.Event()
    slowest, right, count = 0.0, 0, 0

    def good(port: int) -> None:
        nonlocal slowest, right, count
        while not end.is_set():
            count += 1
            started = time.monotonic()
            right += ask(port, count / 4) == np.float32(count / 2)
            slowest = max(slowest, time.monotonic() - started)
            time.sleep(0.005)

    with running(server) as (port,):
        thread = threading.Thread(target=good, args=[port])
        thread.start()
        try:
            yield port
        finally:
            end.set()
            thread.join(30)
        until = time.monotonic() + 5
        while server.connections.count and time.monotonic() < until:
            time.sleep(0.02)
        assert server.running
        assert (server.connections.held, server.connections.count, server.worker.waiting) == (0, 0, 0)
    figure(
        f"{name}: {', '.join(what)}; {right} of {count} good answers right, slowest {1000 * slowest:.0f} ms"
    )
    assert right == count > 0
    assert slowest < SLOWEST_S


def mutated(rng: random.Random, data: bytes, pieces: list[bytes]) -> bytes:
    """Some bytes with up to four places changed, lost, doubled or added."""
    sent = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        # Most of a message are pixels: the beginning and the end say more.
        at = rng.randrange(len(sent)) if rng.random() < 0.4 else min(rng.randrange(120), len(sent) - 1)
        kind = rng.randrange(6)
        if kind == 0:
            sent[at] = rng.randrange(256)
        elif kind == 1 and len(sent) > 40:
            del sent[at : at + rng.randint(1, 20)]
        elif kind == 2:
            sent[at:at] = rng.randbytes(rng.randint(1, 10))
        elif kind == 3:
            sent[at:at] = rng.choice(pieces)
        elif kind == 4:
            piece = rng.choice(pieces)
            sent[at : at + len(piece)] = piece
        elif at > 20:
            del sent[at:]
    return bytes(sent)


PIECES = [
    *(msgpack.packb(value) for value in ({}, [], "x", None, True, 2**63, 1e300, b"ab", "type", "seq")),
    *(b"\xdd\xff\xff\xff\xff", b"\xdf\x7f\xff\xff\xff", b"\xc6\x7f\xff\xff\xff", b"\xc1", b"\x91" * 70),
    *(msgpack.packb(value) for value in ("__ndarray__", b"__ndarray__", "__image__", b"nd", "<f8", "|O8")),
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\xff\xff\x00\x00\xff\xff",
]  # fmt: skip
HEAD_PIECES = [
    b"\r\n",
    b"\r\n\r\n",
    b"\0",
    b": ",
    b"Origin: x\r\n",
    b"Content-Length: 9\r\n",
    b"\x88\x80",
    b"\xff",
]


VALUES = [
    None,
    True,
    -1,
    0,
    3,
    2.5,
    float("nan"),
    1e300,
    2**63,
    "x",
    "png",
    "jpeg",
    "<f8",
    "|O8",
    b"",
    b"ab",
    [],
    {},
]
VALUES += [[1, 2], [[1.0]], {"__ndarray__": True}, {b"__ndarray__": True}, {"__image__": True}, {"seq": 1}]


def edited(rng: random.Random, data: bytes) -> bytes:
    """A message in which one value, at whatever depth, is another, lost, or has another name."""
    told = msgpack.unpackb(data, strict_map_key=False)
    inner = told
    while True:
        key = rng.choice(list(inner))
        if isinstance(inner[key], dict) and inner[key] and rng.random() < 0.8:
            inner = inner[key]
            continue
        value = inner.pop(key)
        kind = rng.randrange(4)
        if kind < 2:
            inner[key] = rng.choice(VALUES)
        elif kind == 2:
            inner[rng.choice(["states", "image", b"nd", b"data", "seq", "é"])] = value
        return msgpack.packb(told)


def attacked(rng: random.Random, data: bytes) -> bytes:
    """A message with its bytes or its values changed."""
    return edited(rng, data) if rng.random() < 0.6 else mutated(rng, data, PIECES)


def vla_eval_messages() -> list[bytes]:
    small = {"agentview": vla_eval.png(1, 4), "wrist": vla_eval.png(2, 4)}
    return [
        message("observation", vla_eval.observation(images=small), seq=77),
        message("episode_start", {"task": vla_eval.TASK}, seq=78),
        message("hello", {"harness_version": "0.8.0", "protocol_version": 1, "benchmark": "x:Y"}, seq=79),
        message("episode_end", {"metrics": {"success": True}, "steps": 4}, seq=80),
    ]


def owed_by_vla_eval(sent: bytes) -> tuple[bool, int | None]:
    """Return whether a message is one that is answered, going by its outermost map, and with which number."""
    unpacker = msgpack.Unpacker(raw=True, strict_map_key=False)
    unpacker.feed(sent)
    fields: dict[Any, Any] = {}
    try:
        for _ in range(unpacker.read_map_header()):
            key = unpacker.unpack()
            if key in (b"type", b"seq"):
                fields[key] = unpacker.unpack()
            else:
                unpacker.skip()
    except (ValueError, TypeError, msgpack.UnpackException):
        return False, None
    if type(fields.get(b"seq")) is not int:
        return False, None
    return fields.get(b"type") in (b"observation", b"hello"), fields[b"seq"]


def test_vla_eval(blows: Callable[[int, int], int], figure: Callable[[str], None]) -> None:
    rng = random.Random(1)
    plain, replies, what = vla_eval_messages(), Counter[str](), list[str]()
    probe = message("hello", {}, seq=424_242)
    count = blows(300, 10_000)
    with beside_a_good_client("vla-eval", figure, what) as port:
        for _ in range(count):
            sent = attacked(rng, rng.choice(plain))
            got = conversation(port, [sent, probe], _is_probe)
            closed = got[-1].opcode == CLOSE
            data = [msgpack.unpackb(frame.data) for frame in got if frame.opcode == BINARY]
            assert closed or data.pop()["seq"] == 424_242  # in order, after all that was owed before
            owed, number = owed_by_vla_eval(sent)
            assert len(data) == (owed and not closed), sent
            assert not data or data[0]["seq"] == number, sent
            replies["end" if closed else data[0]["type"] if data else "none"] += 1
        what += [f"{count} messages", f"replies {dict(sorted(replies.items()))}"]
    assert min(replies["error"], replies["end"], replies["none"]) > count / 50


def _is_probe(data: bytes) -> bool:
    return msgpack.unpackb(data)["seq"] == 424_242


def test_openpi(blows: Callable[[int, int], int], figure: Callable[[str], None]) -> None:
    rng = random.Random(2)
    tiny = openpi.packed(np.zeros((4, 4, 3), np.uint8))
    told = openpi.observation(observation__image=tiny, observation__wrist_image=tiny)
    plain, replies, what = msgpack.packb(told), Counter[str](), list[str]()
    count = blows(300, 10_000)
    with beside_a_good_client("openpi", figure, what) as port:
        for _ in range(count):
            sent = attacked(rng, plain)
            metadata, *got = conversation(port, [sent], lambda data: b"actions" in data)
            assert msgpack.unpackb(metadata.data)["policy"] == "gr00t-n1.5"
            assert [frame.opcode for frame in got] in ([BINARY], [TEXT, CLOSE]), sent
            replies["text" if got[0].opcode == TEXT else "actions"] += 1
        what += [f"{count} messages", f"replies {dict(sorted(replies.items()))}"]
    assert replies["text"] > count / 3


def test_n1_6(blows: Callable[[int, int], int], figure: Callable[[str], None]) -> None:
    rng = random.Random(3)
    plain = [
        msgpack.packb(n1_6.get_action(observe(), {"seed": 1}), default=partial(n1_6.written, form=form))
        for form in n1_6.FORMS
        for observe in (n1_6.nested, n1_6.flat)
    ]
    replies, what = Counter[str](), list[str]()
    count = blows(300, 10_000)
    with beside_a_good_client("n1_6", figure, what) as port, raw(zmq.DEALER, port) as sock:
        for _ in range(count):
            sock.send_multipart([b"", attacked(rng, rng.choice(plain))])
            empty, reply = sock.recv_multipart()
            assert empty == b""
            told = msgpack.unpackb(reply)
            replies["action" if isinstance(told, list) else "error" if "error" in told else "other"] += 1
        what += [f"{count} messages", f"replies {dict(sorted(replies.items()))}"]
    assert replies["error"] > count / 4


@pytest.mark.parametrize("name", ["vla-eval", "openpi"])
def test_bytes_on_bare_connections(
    name: str, blows: Callable[[int, int], int], figure: Callable[[str], None]
) -> None:
    rng = random.Random(4)
    plain = (
        HANDSHAKE + masked(PING, b"p") + masked(BINARY, vla_eval_messages()[2]) + masked(CLOSE, b"\x03\xe8")
    )
    replies, what = Counter[str](), list[str]()
    count = blows(300, 10_000)
    with beside_a_good_client(name, figure, what) as port:
        for _ in range(count):
            head, _ = spoken(port, mutated(rng, plain, [*PIECES, *HEAD_PIECES]))
            replies[head[9:12].decode("latin1") or "none"] += 1
        what += [f"{count} connections", f"replies {dict(sorted(replies.items()))}"]
    assert replies["101"] > count / 20
    assert replies["400"] > count / 20


def conversation(port: int, messages: list[bytes], is_last: Callable[[bytes], bool]) -> list[Frame]:
    """Send messages; return what comes, up to the last reply or the end."""
    got = b""
    sent = b"".join(masked(BINARY, data) for data in messages)
    with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", port), 20) as tcp:
        tcp.sendall(HANDSHAKE + sent)
        while more := tcp.recv(65_536):
            got += more
            found = frames(got.partition(b"\r\n\r\n")[2])
            if found and (
                found[-1].opcode == CLOSE or (found[-1].opcode == BINARY and is_last(found[-1].data))
            ):
                break
    return found
