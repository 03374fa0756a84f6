"""Peers that are no clients, or want too much. Oracle: a good client's answers, and the time they take."""

from __future__ import annotations

import contextlib
import errno
import logging
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq

from gr00t.serving.connections import Connections
from gr00t.serving.robot import RobotInferenceServer
from gr00t.serving.sockets import zmtp
from gr00t.serving.wires import n1_5 as wire
from tests.serving.doubling_policy import DoublingPolicy, request
from tests.serving.recorded import TOKEN, recorded
from tests.serving.socket_helpers import client_at, raw, serving
from tests.serving.sockets.test_zmtp import GREETING, READY

KILL = recorded("req_kill")
# What each of them would have to contain to be taken for a request to end the server.
KILL_FRAMES = zmtp.frames([b"", KILL])
STRANGERS = {
    "ZMTP 1.0": b"\x01\x00" + b"\x01\x01" + bytes([len(KILL) + 1, 0]) + KILL,
    "ZMTP 2.0": b"\xff" + bytes(8) + b"\x7f\x01\x05" + b"\x00\x00" + KILL_FRAMES,
    "HTTP GET": b"GET /kill HTTP/1.1\r\nHost: localhost:5555\r\n\r\n",
    "HTTP POST of a web page": b"POST / HTTP/1.1\r\nOrigin: http://evil\r\n\r\n"
    + GREETING
    + READY
    + KILL_FRAMES,
    "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(190),
    "zeros": bytes(200) + KILL_FRAMES,
    "0xff": b"\xff" * 300,
    "CURVE": GREETING.replace(b"NULL\0", b"CURVE") + READY + KILL_FRAMES,
    "no handshake": GREETING + KILL_FRAMES,
    "SUB": GREETING + READY.replace(b"REQ", b"SUB") + KILL_FRAMES,
}


def answer(client: Any, number: float) -> float:
    return float(client.get_action({"state.x": np.array([[number]])})["action.x"][0, 0])


@contextlib.contextmanager
def stranger(port: int, first: bytes = b"") -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port)) as tcp:
        tcp.settimeout(10)
        tcp.sendall(first)
        yield tcp


def is_hung_up(tcp: socket.socket) -> bool:
    """Read until the other side closes."""
    try:
        while tcp.recv(65536):
            pass
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize("token", [None, TOKEN])
def test_no_stranger_ends_the_server_or_is_answered(token: str | None) -> None:
    with serving(DoublingPolicy(), api_token=token) as (server, port):
        with client_at(port, api_token=token) as client:
            for name, sent in STRANGERS.items():
                with stranger(port, sent) as tcp:
                    assert is_hung_up(tcp), name
                assert answer(client, 3) == 6
        assert server.running
        assert server.connections.hung_up == len(STRANGERS)


def test_thousands_of_connections_of_random_bytes_cost_nobody_anything(
    caplog: pytest.LogCaptureFixture,
) -> None:
    random = np.random.default_rng(1)
    with serving(DoublingPolicy()) as (server, port), client_at(port) as client:
        for number in range(1000):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as tcp:
                tcp.sendall(random.bytes(int(random.integers(1, 100))))
            if number % 250 == 0:
                assert answer(client, number) == 2 * number
        assert server.running
        assert answer(client, 1) == 2
    assert len([record for record in caplog.records if "hung up on" in record.message]) <= 10


def test_doors_held_open_are_closed_when_somebody_needs_the_room() -> None:
    with serving(DoublingPolicy()) as (server, port), contextlib.ExitStack() as stack:
        server.connections.max_connections = 20
        client = stack.enter_context(client_at(port))
        assert answer(client, 1) == 2
        held = [stack.enter_context(stranger(port, GREETING[:30])) for _ in range(30)]
        introduced = [stack.enter_context(stranger(port, GREETING + READY)) for _ in range(30)]
        assert answer(client, 2) == 4  # who is in use is not hung up on, or connects again
        with client_at(port) as late:
            assert answer(late, 3) == 6
        assert server.connections.count <= 20
        assert sum(is_hung_up(tcp) for tcp in held) == 30
        assert is_hung_up(introduced[0])


def test_a_handshake_that_is_never_ended_is_ended_by_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gr00t.serving.connections._HANDSHAKE_S", 0.3)
    with serving(DoublingPolicy()) as (_, port), stranger(port, GREETING) as tcp:
        started = time.monotonic()
        assert is_hung_up(tcp)
        assert time.monotonic() - started < 3


def test_without_file_descriptors_it_rests_and_then_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the listening socket would end every wait at once: a core at full load."""

    def exhausted(self: Connections) -> None:
        self._rest(OSError(errno.EMFILE, "Too many open files"))

    with contextlib.closing(RobotInferenceServer(DoublingPolicy(), port=0)) as server:
        peers = server.connections
        with stranger(int(server.address.rsplit(":", 1)[1])):
            with monkeypatch.context() as patch:
                patch.setattr(Connections, "_accept", exhausted)
                assert turns(peers, lambda: False, 0.4) < 5
            turns(peers, lambda: peers.count == 1, 5)
            assert peers.count == 1


def turns(peers: Connections, is_enough: Callable[[], bool], seconds: float) -> int:
    """Poll until it is enough, or for some seconds; return how often."""
    count = 0
    until = time.monotonic() + seconds
    while not is_enough() and time.monotonic() < until:
        peers.poll(0.5)
        count += 1
    return count


def test_there_are_never_more_connections_than_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, 4096))
    peers = Connections("127.0.0.1", 0, lambda: zmtp.ZmtpConversation(1000))
    assert peers.max_connections == 256 - 64
    peers.close(0)


def test_what_all_peers_make_us_hold_is_bounded_and_who_held_it_for_longest_goes() -> None:
    """Parts without an end on one connection, and unfinished messages on many."""
    limit = 1_000_000
    server = RobotInferenceServer(DoublingPolicy(), port=0, max_message_bytes=300_000)
    server.connections._max_held = limit
    with serving_this(server) as port, contextlib.ExitStack() as stack, client_at(port) as client:
        endless = stack.enter_context(stranger(port, GREETING + READY))
        with contextlib.suppress(OSError):
            for _ in range(100):
                endless.sendall(b"\x03" + (50_000).to_bytes(8, "big") + bytes(50_000))
        assert is_hung_up(endless)
        unfinished = []
        for _ in range(12):
            tcp = stack.enter_context(stranger(port, GREETING + READY))
            tcp.sendall(b"\x01\x00\x02" + (250_000).to_bytes(8, "big") + bytes(200_000))
            unfinished.append(tcp)
            assert client.ping()
            assert server.connections.held <= limit
        assert answer(client, 2) == 4
        assert is_hung_up(unfinished[0])
        assert not is_hung_up_at_once(unfinished[-1])


def is_hung_up_at_once(tcp: socket.socket) -> bool:
    tcp.settimeout(0.2)
    return is_hung_up(tcp)


@contextlib.contextmanager
def serving_this(server: RobotInferenceServer) -> Iterator[int]:
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield int(server.address.rsplit(":", 1)[1])
    server.running = False
    thread.join(5)
    assert not thread.is_alive()


def two_peers(server: RobotInferenceServer, stack: contextlib.ExitStack) -> list[socket.socket]:
    port = int(server.address.rsplit(":", 1)[1])
    both = [stack.enter_context(stranger(port, GREETING + READY)) for _ in range(2)]
    until = time.monotonic() + 5
    while sum(peer.conversation.is_open for peer in server.connections._open.values()) < 2:
        assert time.monotonic() < until
        server.connections.poll(0.1)
    return both


def test_a_peer_that_is_hung_up_on_right_after_its_message_came_ends_nothing() -> None:
    """Both are read in one turn: the second one's bytes are too many, the first has held his for longer."""
    with (
        contextlib.closing(RobotInferenceServer(DoublingPolicy(), port=0)) as server,
        contextlib.ExitStack() as stack,
    ):
        first, second = two_peers(server, stack)
        peers = {peer.name: peer for peer in server.connections._open.values()}
        peers["{}:{}".format(*second.getsockname())].spent = 0.004
        peers["{}:{}".format(*first.getsockname())].spent = 0.0
        server.connections._max_held = 150
        first.sendall(zmtp.frames([b"", bytes(100)]))
        second.sendall(b"\x01\x00\x02" + (110).to_bytes(8, "big") + bytes(100))
        time.sleep(0.1)
        server._turn(0.1)
        assert server.connections.hung_up == 1
        assert server.connections.count == 1
        assert is_hung_up(first)


def test_a_connection_is_gone_through_once_at_a_time() -> None:
    """Else two tasks would answer the same message: also a reply that can leave makes it ready."""
    with (
        contextlib.closing(RobotInferenceServer(DoublingPolicy(), port=0)) as server,
        contextlib.ExitStack() as stack,
    ):
        first, _ = two_peers(server, stack)
        first.sendall(zmtp.frames([b"", recorded("req_ping")]))
        (returned,) = server.connections.poll(1)
        returned.untaken += b"x"
        server.connections._update(returned)
        assert server.connections.poll(0.1) == []
        server.connections.resume(returned)
        returned.untaken += b"x"
        server.connections._update(returned)
        assert server.connections.poll(0.1) == [returned]


def test_who_does_not_take_his_replies_is_not_asked_for_more() -> None:
    report = {"text": ["x" * 1000] * 100}
    server = RobotInferenceServer(DoublingPolicy(), port=0)
    server.register_endpoint("report", lambda: report, False, immediate=True)
    ask = zmtp.frames([b"", wire.pack({"endpoint": "report"})])
    with serving_this(server) as port, stranger(port, GREETING + READY) as deaf, client_at(port) as client:
        deaf.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            for _ in range(200_000):
                deaf.sendall(ask)
        assert server.connections.held < 30_000_000
        assert client.ping()


def test_what_was_abandoned_is_not_computed_for_nobody() -> None:
    """Oracle: the policy's own list. 500 clients that gave up cost a good one nothing."""
    policy = DoublingPolicy(seconds=0.2)
    with serving(policy, max_batch=1) as (server, port), client_at(port, timeout_ms=20_000) as client:
        policy.gate.clear()
        with raw(zmq.REQ, port) as first:
            first.send(request(0))
            assert policy.begun.acquire(timeout=5)
            for number in range(1, 501):
                with stranger(port, GREETING + READY + zmtp.frames([b"", request(number)])) as tcp:
                    if number % 50 == 0:
                        tcp.recv(64)
            policy.gate.set()
            started = time.monotonic()
            assert answer(client, 1000) == 2000
            assert time.monotonic() - started < 5
            assert wire.unpack(first.recv())["action.x"] == 0
        assert server.worker.abandoned + len(policy.batches) >= 2
        assert len(policy.batches) < 10


def test_a_ping_is_answered_while_the_worst_messages_are_gone_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="gr00t")
    worst = msgpack.packb({"endpoint": "get_action", "data": {"v": [[]] * 150_000}})
    with serving(DoublingPolicy()) as (_, port), contextlib.ExitStack() as stack:
        flood = [stack.enter_context(raw(zmq.DEALER, port)) for _ in range(3)]
        client = stack.enter_context(client_at(port))
        assert client.ping()
        for sock in flood:
            sock.send_multipart([b"", worst])
        slowest = 0.0
        for _ in range(20):
            started = time.monotonic()
            assert client.ping()
            slowest = max(slowest, time.monotonic() - started)
        assert slowest < 1.5
        for sock in flood:
            sock.rcvtimeo = 30_000
            assert "error" in wire.unpack(sock.recv_multipart()[-1])


def test_a_ping_goes_before_messages_that_take_long_and_a_flood_of_pings_does_not_stop_these() -> None:
    """Oracle: the order of the replies, in one thread."""
    with contextlib.closing(RobotInferenceServer(DoublingPolicy(), port=0)) as server:
        port = int(server.address.rsplit(":", 1)[1])
        long = zmtp.frames([b"", msgpack.packb({"endpoint": "get_action", "data": {"v": [[]] * 100_000}})])
        ping = zmtp.frames([b"", recorded("req_ping")])
        with stranger(port, GREETING + READY + long) as slow, stranger(port, GREETING + READY) as quick:
            until = time.monotonic() + 20
            while not server._turns and time.monotonic() < until:
                server._turn(0.1)
            quick.sendall(ping * 3_000)
            turns = 0
            while not server.worker.waiting and time.monotonic() < until:
                server._turn(0.1)
                turns += 1
            assert server.worker.waiting == 1
            assert turns < 40  # beside three thousand pings
            assert recorded("resp_ping") in quick.recv(1_000_000)
            slow.close()


def test_peers_that_cost_much_to_read_are_read_after_those_that_cost_little() -> None:
    """Thousands of messages in one packet; oracle: how long a ping takes beside thirty such peers."""
    flood = zmtp.frames([b"", wire.pack({"endpoint": "get_server_info"})]) * 20_000
    with serving(DoublingPolicy()) as (_, port), contextlib.ExitStack() as stack, client_at(port) as client:
        assert client.ping()
        for _ in range(30):
            tcp = stack.enter_context(stranger(port, GREETING + READY))
            tcp.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                tcp.send(flood)
        slowest = 0.0
        for _ in range(10):
            started = time.monotonic()
            assert client.ping()
            slowest = max(slowest, time.monotonic() - started)
    assert slowest < 1.0


def test_heartbeats_of_libzmq_are_answered() -> None:
    with serving(DoublingPolicy(seconds=0.6)) as (_, port), raw(zmq.REQ, port, heartbeat_ivl=50) as sock:
        sock.send(request(4))
        assert wire.unpack(sock.recv())["action.x"] == 8


def test_a_step_that_fails_costs_its_own_peer_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever one message raises: here the server's own code."""

    def fail(self: Any, connection: Any) -> Any:
        raise RuntimeError("a fault of ours")
        yield

    with serving(DoublingPolicy()) as (server, port), client_at(port) as client:
        assert client.ping()
        with monkeypatch.context() as patch, stranger(port, GREETING + READY) as tcp:
            patch.setattr(type(server), "_take_in", fail)
            tcp.sendall(zmtp.frames([b"", recorded("req_ping")]))
            assert is_hung_up(tcp)
        assert client.ping()
