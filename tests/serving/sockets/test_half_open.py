"""Peers that say no more, and those that take their time. Oracle: whose answers come, what is computed."""

from __future__ import annotations

import contextlib
import socket
import time

import numpy as np
import zmq

from gr00t.serving.robot import RobotInferenceServer
from gr00t.serving.sockets import zmtp
from gr00t.serving.wires import n1_5 as wire
from tests.serving.doubling_policy import DoublingPolicy, request
from tests.serving.recorded import recorded
from tests.serving.socket_helpers import client_at, raw, serving
from tests.serving.sockets.test_zmtp import GREETING, READY
from tests.serving.test_strangers import answer, serving_this, stranger

HANDSHAKE = zmtp.greeting() + zmtp.ready(b"ROUTER")


def read_to_the_end(tcp: socket.socket) -> bytes:
    got = b""
    while data := tcp.recv(65536):
        got += data
    return got


def test_who_says_no_more_but_listens_gets_every_answer_and_then_the_end() -> None:
    asked = [zmtp.frames([b"", request(number)]) for number in (1, 2, 3)]
    ping = zmtp.frames([b"", recorded("req_ping")])
    with serving(DoublingPolicy(seconds=0.3), max_batch=1) as (server, port):
        with stranger(port, GREETING + READY + b"".join(asked) + ping) as tcp:
            tcp.shutdown(socket.SHUT_WR)
            got = read_to_the_end(tcp)
        expected = [wire.pack({"action.x": np.array([[2.0 * number]])}) for number in (1, 2, 3)]
        assert got == HANDSHAKE + b"".join(
            zmtp.frames([b"", reply]) for reply in (recorded("resp_ping"), *expected)
        )
        with stranger(port, GREETING + READY + ping) as tcp:
            tcp.shutdown(socket.SHUT_WR)
            assert read_to_the_end(tcp) == HANDSHAKE + zmtp.frames([b"", recorded("resp_ping")])
        assert server.connections.count == 0


def test_the_byte_sent_ahead_fits_the_longest_envelope_and_no_longer_one_is_taken() -> None:
    with serving(DoublingPolicy(seconds=0.2), max_batch=1) as (_, port):
        too_long = zmtp.frames([b"i" * 256, b"", request(1)])
        longest = zmtp.frames([b"i" * 255, b"j", b"", request(2)])
        with stranger(port, GREETING + READY + too_long + longest) as tcp:
            tcp.shutdown(socket.SHUT_WR)
            reply = wire.pack({"action.x": np.array([[4.0]])})
            assert read_to_the_end(tcp) == HANDSHAKE + zmtp.frames([b"i" * 255, b"j", b"", reply])


def test_nothing_is_computed_for_clients_that_closed_in_good_order() -> None:
    """They have read all that was sent to them, so that their systems say goodbye as in a half-closed one."""
    policy = DoublingPolicy(seconds=0.2)
    with serving(policy, max_batch=1) as (server, port), raw(zmq.REQ, port) as first:
        policy.gate.clear()
        first.send(request(0))
        assert policy.begun.acquire(timeout=5)
        for number in range(1, 51):
            with raw(zmq.REQ, port) as client:
                client.send(request(number))
                until = time.monotonic() + 5
                while server.worker.waiting < 1 and time.monotonic() < until:
                    time.sleep(0.001)
        time.sleep(1.0)
        assert server.connections.count == 1
        policy.gate.set()
        with client_at(port) as client:
            assert answer(client, 1000) == 2000
        assert wire.unpack(first.recv())["action.x"] == 0
    assert policy.batches == [[0.0], [1000.0]]


def test_messages_behind_replies_that_had_to_wait_are_gone_through_when_the_replies_leave_by_themselves() -> (
    None
):
    """The last reply took the others along before the socket was asked whether it could."""
    server = RobotInferenceServer(DoublingPolicy(), port=0)
    server.register_endpoint("report", lambda: {"text": "x" * 60_000}, False, immediate=True)
    peers = server.connections
    port = int(server.address.rsplit(":", 1)[1])
    with stranger(port, GREETING + READY) as tcp:
        report = zmtp.frames([b"", wire.pack({"endpoint": "report"})])
        until = time.monotonic() + 10
        while peers.count == 0:
            peers.poll(0.1)
        (connection,) = peers._open.values()
        tcp.sendall(report * 500)
        while not (connection.is_clogged and not connection.is_looked_at) and time.monotonic() < until:
            server._turn(0.05)
        assert connection.inbox
        while connection.untaken and time.monotonic() < until:
            tcp.recv(10_000_000)
            peers.send(connection, [b"", b"one more"])
        left = len(connection.inbox)
        tcp.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            while tcp.recv(10_000_000):
                pass
        server._turn(0.5)
        assert len(connection.inbox) < left
    server.close()


def test_thousands_of_empty_messages_in_one_packet_are_found_in_small_turns() -> None:
    """Of all peers together they would be hours of work and gigabytes: 2 bytes are 200 here."""
    long = zmtp.frames([b"", wire.pack({"endpoint": "ping", "data": bytes(20_000)})])
    server = RobotInferenceServer(DoublingPolicy(), port=0)
    with serving_this(server) as port, stranger(port) as tcp, client_at(port) as client:
        most = 0
        receive = zmtp.ZmtpConversation.receive

        def watched(conversation: zmtp.ZmtpConversation, data: bytes) -> list[zmtp.Message]:
            nonlocal most
            messages = receive(conversation, data)
            most = max(most, len(messages))
            return messages

        zmtp.ZmtpConversation.receive = watched  # type: ignore[method-assign]
        try:
            tcp.sendall(GREETING + READY + (long + b"\0\0" * 30_000) * 3)
            assert client.ping()
        finally:
            zmtp.ZmtpConversation.receive = receive  # type: ignore[method-assign]
    assert 0 < most <= 64
