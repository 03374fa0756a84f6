"""A hostile network beside a good client. Oracle: every good answer is there, and is its own to the last bit.

The server runs in a process of its own and doubles numbers, so that whose answer it is shows in the answer.
Attackers send messages of the right structure with wrong content, mutated ones, and bytes on bare
connections; whatever they do, the server lives, pings are answered and its memory stays where it is.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq

from gr00t.serving.client import ExternalRobotInferenceClient
from gr00t.serving.sockets import zmtp
from gr00t.serving.wires import n1_5 as wire
from tests.serving.recorded import ROOT, recorded
from tests.serving.socket_helpers import client_at, free_port, raw
from tests.serving.sockets.test_zmtp import GREETING, READY
from tests.serving.test_strangers import STRANGERS
from tests.shell import REPO

# What the good client may at worst wait for: its forward takes 5 ms, everything else is the attack's doing.
SLOWEST_PING_S = 3.0
MEMORY_GROWTH = 600e6  # bytes: what all peers together may make it hold, and what malloc keeps of that


class Server:
    """A server process, and what can be seen of it from outside."""

    def __init__(self, port: int) -> None:
        self.port = port
        module = REPO / "tests" / "serving" / "doubling_policy.py"
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, str(module), str(port)], env=environ, stderr=subprocess.DEVNULL
        )

    @property
    def lives(self) -> bool:
        return self.process.poll() is None

    def memory(self) -> int:
        """Bytes of its memory that are in use, and the most that ever were."""
        return self._status("VmRSS")

    def peak(self) -> int:
        return self._status("VmHWM")

    def _status(self, name: str) -> int:
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(text.partition(f"{name}:")[2].split()[0])

    def open_files(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server(free_port())
    with client_at(server.port) as client:
        client.wait_until_ready(60)
    yield server
    if server.lives:
        server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(20) == 128 + signal.SIGTERM


class GoodClient:
    """Asks all the time, in a thread; keeps what it got and how long a ping took."""

    def __init__(self, port: int) -> None:
        self.asked = self.right = 0
        self.slowest = 0.0
        self.failures: list[str] = []
        self._port = port
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> GoodClient:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join(60)

    def _run(self) -> None:
        with client_at(self._port, timeout_ms=30_000) as client:
            while not self._end.is_set():
                self.asked += 1
                try:
                    self._ask(client, self.asked / 3)
                except Exception as error:  # noqa: BLE001
                    self.failures.append(repr(error))

    def _ask(self, client: ExternalRobotInferenceClient, number: float) -> None:
        started = time.monotonic()
        assert client.ping(30_000)
        self.slowest = max(self.slowest, time.monotonic() - started)
        answer = client.get_action({"state.x": np.array([[number]])})["action.x"]
        assert answer.tobytes() == np.array([[2 * number]]).tobytes(), answer
        self.right += 1


@contextlib.contextmanager
def beside_a_good_client(server: Server, figure: Callable[[str], None], what: list[str]) -> Iterator[None]:
    """Run an attack; then nothing of the good client's is lost, and nothing of the server's memory."""
    before, files = server.memory(), server.open_files()
    with GoodClient(server.port) as good:
        yield
        time.sleep(0.2)
    growth = server.memory() - before if server.lives else 0
    figure(
        f"{', '.join(what)}; {int(not server.lives)} crashes, {good.right} of {good.asked} good answers "
        f"bit-equal, slowest ping {1000 * good.slowest:.0f} ms, memory {growth / 1e6:+.0f} MB, peak "
        f"{server.peak() / 1e6:.0f} MB"
    )
    assert server.lives
    assert good.failures == []
    assert good.right == good.asked > 0
    assert good.slowest < SLOWEST_PING_S
    assert growth < MEMORY_GROWTH
    until = time.monotonic() + 5
    while server.open_files() > files + 5 and time.monotonic() < until:
        time.sleep(0.1)
    assert server.open_files() <= files + 5


VALID = [recorded(f"req_{name}") for name in ("ping", "get_action_small", "get_modality_config", "kill")]
WORDS = [
    *("endpoint", "data", "options", "api_token", "seed", "get_action", "ping", "kill", "get_server_info"),
    *(
        "__ndarray_class__",
        "as_npy",
        "__ModalityConfig_class__",
        "as_json",
        "state.x",
        "video.x",
        "annotation",
    ),
    *("", "\x00", "é" * 50, "x" * 3000, "[" * 5000),
]


class Fuzzer:
    """Messages of the right structure with wrong content, and right ones with wrong bytes, by a seed."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def message(self) -> bytes:
        if self.random.random() < 0.5:
            return self._mutated()
        # Never a request to end: on this machine it would be obeyed.
        fields = {self._word(): self._value(3) for _ in range(self.random.integers(1, 5))}
        fields |= {"endpoint": self._pick(["get_action", "ping", "get_server_info", "nope", 7, None])}
        fields["data"] = self._pick([{}, {"state.x": self._value(3)}, self._value(3), {self._word(): 1}])
        return bytes(msgpack.packb(fields))

    def _mutated(self) -> bytes:
        payload = bytearray(self._pick(VALID))
        for _ in range(self.random.integers(1, 4)):
            at = int(self.random.integers(0, min(400, len(payload)) or 1))
            edit = self.random.integers(0, 4)
            if edit == 0:
                payload[at : at + 1] = self.random.bytes(1)
            elif edit == 1:
                payload[at:at] = self.random.bytes(int(self.random.integers(1, 9)))
            elif edit == 2:
                del payload[at : at + int(self.random.integers(1, 9))]
            else:
                del payload[at:]
        return b"" if b"kill" in payload else bytes(payload)

    def _value(self, depth: int) -> Any:
        kind = self.random.integers(0, 9 if depth else 6)
        if kind == 0:
            return self._pick([0, -1, 2**63, 2**64 - 1, -(2**63), True, None])
        if kind == 1:
            return self._pick([float("nan"), float("inf"), -float("inf"), 1e300, 5e-324, -0.0])
        if kind == 2:
            return self._word()
        if kind == 3:
            return self.random.bytes(int(self.random.integers(0, 50)))
        if kind in (4, 5):
            return {"__ndarray_class__": True, "as_npy": self._npy()}
        if kind == 6:
            return {self._word(): self._value(depth - 1) for _ in range(self.random.integers(0, 4))}
        if kind == 7:
            return [self._value(depth - 1)] * int(self.random.integers(0, 20))
        value: Any = 1
        for _ in range(self.random.integers(0, 100)):
            value = [value]
        return value

    def _npy(self) -> bytes:
        descr = self._pick(
            ["<f8", "|u1", "|O", "<U0", "<U99", "<f3", "<M8", "|V8", ">c16", "|b1", "x" * 3000]
        )
        shape = self._pick(
            ["()", "(1, 1)", "(0,)", "(1000000000, 1000000000)", "(-1,)", "(1,)", "(" + "1," * 99]
        )
        header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
        length = len(header).to_bytes(2, "little")
        return b"\x93NUMPY\x01\x00" + length + header + self.random.bytes(self._pick([0, 1, 8, 16, 100]))

    def _word(self) -> str:
        return self._pick(WORDS)

    def _pick(self, choices: list[Any]) -> Any:
        return choices[int(self.random.integers(0, len(choices)))]


def test_wrong_messages_get_their_replies(
    server: Server, blows: Callable[[int, int], int], figure: Callable[[str], None]
) -> None:
    count, fuzzer, errors = blows(2_000, 100_000), Fuzzer(7), 0
    what = [f"{count} messages"]
    with beside_a_good_client(server, figure, what), raw(zmq.REQ, server.port) as attacker:
        attacker.rcvtimeo = 30_000
        for _ in range(count):
            attacker.send(fuzzer.message())
            errors += "error" in wire.unpack(attacker.recv())
        what.append(f"{errors} refused")
    assert errors > count / 2


def test_bytes_on_bare_connections(
    server: Server, blows: Callable[[int, int], int], figure: Callable[[str], None]
) -> None:
    count, random = blows(1_000, 50_000), np.random.default_rng(3)
    scripts = [*STRANGERS.values(), GREETING, GREETING + READY]
    with beside_a_good_client(server, figure, [f"{count} connections"]), contextlib.ExitStack() as open_ones:
        for number in range(count):
            script = (
                scripts[number % len(scripts)] if number % 2 else random.bytes(int(random.integers(0, 200)))
            )
            if number % 3 == 0:
                at = int(random.integers(0, len(script) + 1))
                script = script[:at] + random.bytes(2) + script[at + 2 :]
            with contextlib.suppress(OSError):
                tcp = socket.create_connection(("127.0.0.1", server.port), timeout=5)
                if b"kill" not in script or script in STRANGERS.values():
                    tcp.sendall(script)
                # Some stay, some leave orderly, some in the middle.
                if number % 20 == 0 and number < 4_000:
                    open_ones.callback(tcp.close)
                else:
                    tcp.close()


def test_those_who_want_all_the_memory(
    server: Server, blows: Callable[[int, int], int], figure: Callable[[str], None]
) -> None:
    megabytes = blows(1_300, 20_000)
    what = [f"{megabytes} MB on connections that never end a message"]
    part = b"\x03" + (1_000_000).to_bytes(8, "big") + bytes(1_000_000)
    with beside_a_good_client(server, figure, what), contextlib.ExitStack() as stack:
        sent = 0
        while sent < megabytes:
            tcp = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=5))
            with contextlib.suppress(OSError):
                tcp.sendall(GREETING + READY)
                for _ in range(50):
                    tcp.sendall(part)
                    sent += 1
        assert server.peak() < 1.1e9


def test_the_shortest_messages_that_there_are(
    server: Server, blows: Callable[[int, int], int], figure: Callable[[str], None]
) -> None:
    count = blows(400, 900)
    what = [f"{count} connections with 8000 empty messages each"]
    with beside_a_good_client(server, figure, what), contextlib.ExitStack() as stack:
        floods = []
        for _ in range(count):
            tcp = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=5))
            tcp.sendall(GREETING + READY)
            floods.append(tcp)
        time.sleep(0.5)
        for tcp in floods:
            tcp.sendall(b"\0\0" * 8000)
        for _ in range(5):
            with client_at(server.port) as late:
                assert late.ping(5_000)
            time.sleep(0.3)


def test_bombs(server: Server, blows: Callable[[int, int], int], figure: Callable[[str], None]) -> None:
    bombs = [
        b"\xdf" + (11_000_000).to_bytes(4, "big") + b"\xa1k\xc0" * 11_000_000,
        msgpack.packb({"endpoint": "get_action", "options": {"x" * 60_000_000: 1}}),
        msgpack.packb({"endpoint": "get_action", "data": {"state.x": ["a" * 30] * 900_000}}),
        msgpack.packb({"endpoint": "get_action", "data": {"k" * 8_000_000: 1}}),
        msgpack.packb({"endpoint": "z" * 8_000_000}),
        b"\xdd"
        + (999_999).to_bytes(4, "big") * 1
        + (b"\xdd" + (999_999).to_bytes(4, "big")) * 900
        + bytes(10**6),
        wire.pack({"data": {"video.x": np.zeros((5000, 1, 2, 2, 3), np.uint8)}}),
        bytes(100_000_000),
    ]
    rounds, longest = blows(1, 50), 0
    with beside_a_good_client(server, figure, [f"{rounds * len(bombs)} bombs"]):
        for _ in range(rounds):
            for bomb in bombs:
                with raw(zmq.REQ, server.port) as attacker:
                    attacker.rcvtimeo = 60_000
                    attacker.send(bomb, copy=False)
                    reply = attacker.recv()
                    assert "error" in wire.unpack(reply)
                    longest = max(longest, len(reply))
    assert longest < 2_200
    assert server.peak() < 1.5e9


def test_askers_who_leave_and_askers_who_never_listen(
    server: Server, blows: Callable[[int, int], int], figure: Callable[[str], None]
) -> None:
    count = blows(300, 10_000)
    ask = zmtp.frames([b"", wire.pack({"endpoint": "get_action", "data": {"state.x": np.array([[1.0]])}})])
    tell = zmtp.frames([b"", wire.pack({"endpoint": "get_server_info"})])
    with (
        beside_a_good_client(server, figure, [f"{count} abandoned requests"]),
        contextlib.ExitStack() as stack,
    ):
        for number in range(count):
            tcp = socket.create_connection(("127.0.0.1", server.port), timeout=5)
            tcp.sendall(GREETING + READY + ask)
            tcp.close()
            if number % 100 == 0:
                deaf = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=5))
                deaf.settimeout(0.3)
                with contextlib.suppress(OSError):
                    deaf.sendall(GREETING + READY + tell * 20_000)
