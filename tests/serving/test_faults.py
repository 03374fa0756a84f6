"""Peers that die, cheat, flood or never read. Oracle: everybody else's own answer, and nothing lost.

Servers are real and on real sockets, the policy doubles a number: whose answer it is shows in the answer.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zmq
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from gr00t.serving.client import ExternalRobotInferenceClient, NoReplyError, NoServerError, ServerError
from gr00t.serving.robot import RobotInferenceServer
from gr00t.serving.wires import n1_5 as wire
from tests.serving.doubling_policy import DoublingPolicy, request
from tests.serving.recorded import ROOT, TOKEN, recorded
from tests.serving.socket_helpers import client_at, free_port, raw, serving

EMPTY_FRAME = b"\x01\x00"


def receive(tcp: socket.socket, count: int) -> bytes:
    """Exactly `count` bytes, which may come in parts: with a timeout MSG_WAITALL does not wait for all."""
    received = b""
    while len(received) < count:
        part = tcp.recv(count - len(received))
        assert part, f"hung up after {len(received)} of {count} bytes"
        received += part
    return received


@contextlib.contextmanager
def req_by_hand(port: int) -> Iterator[socket.socket]:
    """A TCP connection that has introduced itself as a ZeroMQ REQ (ZMTP 3.0): what is sent now are frames."""
    with socket.create_connection(("127.0.0.1", port)) as tcp:
        tcp.settimeout(5)
        tcp.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(16 + 1 + 31))
        # In step with the other side: libzmq hangs up on who runs ahead.
        receive(tcp, 64)
        tcp.sendall(b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03REQ")
        assert tcp.recv(200).endswith(b"ROUTER\x08Identity\x00\x00\x00\x00")
        yield tcp


def answer(client: ExternalRobotInferenceClient, number: float) -> float:
    return float(client.get_action({"state.x": np.array([[number]])})["action.x"][0, 0])


@contextlib.contextmanager
def held(policy: DoublingPolicy) -> Iterator[None]:
    """Hold the policy's forwards; let go at the end, whatever happens."""
    policy.gate.clear()
    try:
        yield
    finally:
        policy.gate.set()


def test_a_ping_is_answered_while_a_forward_runs() -> None:
    policy = DoublingPolicy()
    with serving(policy) as (_, port), raw(zmq.REQ, port) as busy, client_at(port) as client:
        with held(policy):
            busy.send(request(1))
            assert policy.begun.acquire(timeout=5)
            started = time.monotonic()
            assert client.ping(2_000)
            assert client.get_server_info()["waiting"] == 0
            assert client.get_modality_config() == {}
            assert client.get_quantization_report() == {"enabled": False}
            assert time.monotonic() - started < 2
        assert wire.unpack(busy.recv())["action.x"] == 2


def test_what_clients_asked_that_are_dead_is_not_computed_and_costs_nobody_an_answer() -> None:
    policy = DoublingPolicy()
    with serving(policy) as (_, port), contextlib.ExitStack() as stack:
        alive = [stack.enter_context(raw(zmq.REQ, port)) for _ in range(4)]
        with held(policy):
            alive[0].send(request(0))
            assert policy.begun.acquire(timeout=5)
            for number in range(1, 4):
                with raw(zmq.REQ, port) as doomed:
                    doomed.linger = 500
                    doomed.send(request(100 + number))
                alive[number].send(request(number))
            wait_for_waiting(port, 6)
        assert [wire.unpack(sock.recv())["action.x"].item() for sock in alive] == [0, 2, 4, 6]
    assert list(map(sorted, policy.batches)) == [[0], [1, 2, 3]]


def wait_for_waiting(port: int, count: int) -> None:
    with client_at(port) as client:
        for _ in range(500):
            if client.get_server_info()["waiting"] == count:
                return
            time.sleep(0.01)
    pytest.fail(f"{count} requests never waited")


@pytest.mark.parametrize("sent", [10, 1000])
def test_half_a_message_disturbs_nobody(sent: int) -> None:
    message = recorded("req_get_action_small")
    frame = b"\x02" + len(message).to_bytes(8, "big") + message[:sent]
    with serving(DoublingPolicy()) as (_, port), client_at(port) as client:
        with req_by_hand(port) as half:
            half.sendall(EMPTY_FRAME + frame)
            assert answer(client, 3) == 6
        assert answer(client, 4) == 8


def test_the_frames_of_these_tests_are_a_whole_message_when_they_are_complete() -> None:
    """Else half of one would prove nothing."""
    message = recorded("req_ping")
    with serving(DoublingPolicy()) as (_, port), req_by_hand(port) as whole:
        whole.sendall(EMPTY_FRAME + b"\x00" + bytes([len(message)]) + message)
        reply = recorded("resp_ping")
        expected = EMPTY_FRAME + b"\x00" + bytes([len(reply)]) + reply
        assert receive(whole, len(expected)) == expected


def test_a_message_of_100_megabytes_is_refused_and_others_are_served_meanwhile() -> None:
    with serving(DoublingPolicy()) as (_, port), raw(zmq.REQ, port) as big, client_at(port) as client:
        big.send(bytes(100_000_000), copy=False)
        assert answer(client, 3) == 6
        assert wire.unpack(big.recv()) == {
            "error": "message of 100000000 bytes; at most 67108864 are accepted: send fewer samples, or "
            "smaller frames, in each request"
        }


def test_a_wrong_token_is_refused_and_costs_the_right_one_nothing() -> None:
    policy = DoublingPolicy()
    with serving(policy, api_token=TOKEN) as (_, port), client_at(port, api_token=TOKEN) as right:
        with client_at(port, api_token="secreT") as wrong:
            for call in (lambda: answer(wrong, 1), wrong.ping, wrong.get_server_info, wrong.kill_server):
                with pytest.raises(ServerError, match="Unauthorized: Invalid API token"):
                    call()
        assert answer(right, 2) == 4
    assert policy.batches == [[2.0]]


VALID = [recorded(f"req_{name}") for name in ("ping", "get_action_small", "get_modality_config")]


def mutate(recipe: bytes) -> bytes:
    """Return a valid message with one to three edits, four bytes of the recipe each after the first."""
    payload = bytearray(VALID[recipe[0] % len(VALID)])
    for step in range(1, len(recipe), 4):
        kind, far, near, new = recipe[step : step + 4]
        # Most of a message is pixels; the bytes at its front are where the format is.
        at = (far % 2 * 256 + near) % max(1, len(payload))
        if kind % 4 == 0:
            payload[at : at + 1] = bytes([new])
        elif kind % 4 == 1:
            payload[at:at] = bytes([new]) * (far % 9 + 1)
        elif kind % 4 == 2:
            del payload[at : at + new % 9 + 1]
        elif far % 4 == 0:
            del payload[at:]
    return bytes(payload)


def test_a_thousand_malformed_messages_get_a_thousand_replies(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="gr00t")  # a line for each of them takes longer than the test
    with serving(DoublingPolicy()) as (_, port), raw(zmq.REQ, port) as fuzzer, client_at(port) as client:
        errors: list[bool] = []

        @settings(max_examples=1000, deadline=None, database=None, phases=[Phase.generate])
        @given(st.binary(min_size=5, max_size=5) | st.binary(min_size=13, max_size=13))
        def send(recipe: bytes) -> None:
            fuzzer.send(mutate(recipe))
            errors.append("error" in wire.unpack(fuzzer.recv()))

        send()
        assert len(errors) == 1000
        assert sum(errors) > 500  # the others still meant something: another pixel, another name of a key
        assert client.ping()
        assert answer(client, 5) == 10


def test_a_flood_is_answered_busy_and_then_served_again() -> None:
    policy = DoublingPolicy()
    with serving(policy, max_waiting=8) as (_, port), raw(zmq.DEALER, port) as flood:
        with held(policy):
            flood.send_multipart([b"", request(0)])
            assert policy.begun.acquire(timeout=5)
            for number in range(1, 101):
                flood.send_multipart([b"", request(number)])
            busy = [wire.unpack(flood.recv_multipart()[-1])["error"] for _ in range(92)]
            assert {text[:46] for text in busy} == {"busy: 8 requests of 1600 bytes are waiting alr"}
            with client_at(port, timeout_ms=500) as client:
                with pytest.raises(NoReplyError, match=r"did not take get_action within 0\.5 s: busy: 8 req"):
                    answer(client, 1)
                assert client.ping()
        answers = [wire.unpack(flood.recv_multipart()[-1])["action.x"].item() for _ in range(9)]
        assert sorted(answers) == list(range(0, 18, 2))


def test_a_client_waits_out_a_busy_moment() -> None:
    policy = DoublingPolicy()
    with (
        serving(policy, max_waiting=1) as (_, port),
        raw(zmq.DEALER, port) as flood,
        client_at(port) as client,
        held(policy),
    ):
        flood.send_multipart([b"", request(0)])
        assert policy.begun.acquire(timeout=5)
        flood.send_multipart([b"", request(1)])
        wait_for_waiting(port, 1)
        threading.Timer(0.3, policy.gate.set).start()
        assert answer(client, 7) == 14


def test_a_client_that_never_reads_slows_nobody() -> None:
    with serving(DoublingPolicy()) as (_, port), raw(zmq.DEALER, port) as deaf, client_at(port) as client:
        deaf.setsockopt(zmq.RCVHWM, 1)
        for _ in range(3000):  # three times what ZeroMQ holds for a peer
            deaf.send_multipart([b"", recorded("req_get_modality_config")])
        started = time.monotonic()
        assert [answer(client, number) for number in range(20)] == [2.0 * number for number in range(20)]
        assert time.monotonic() - started < 5


def test_at_a_kill_the_batch_under_way_is_answered_and_who_waits_is_told() -> None:
    policy = DoublingPolicy()
    with serving(policy) as (server, port), raw(zmq.REQ, port) as first, raw(zmq.REQ, port) as killer:
        told: list[str] = []

        def wait() -> None:
            with client_at(port) as client, pytest.raises(NoServerError) as caught:
                answer(client, 2)
            told.append(str(caught.value))

        with held(policy):
            first.send(request(1))
            assert policy.begun.acquire(timeout=5)
            waiting = [threading.Thread(target=wait) for _ in range(3)]
            for thread in waiting:
                thread.start()
            wait_for_waiting(port, 3)
            killer.send(recorded("req_kill"))
            assert killer.recv() == recorded("resp_kill")
            for late in (request(3), recorded("req_ping")):
                killer.send(late)
                assert wire.unpack(killer.recv()) == {"error": "stopping: the server was told to end"}
        assert wire.unpack(first.recv())["action.x"] == 2
        for thread in waiting:
            thread.join(5)
        assert told == [f"the server at tcp://localhost:{port} ended before it answered get_action"] * 3
        assert not server.running
    assert policy.batches == [[1.0]]


def test_the_loop_looks_up_now_and_then_for_a_signal_that_came_just_before_it_waited() -> None:
    server = RobotInferenceServer(DoublingPolicy(), port=0)
    started = time.monotonic()
    server._turn()
    assert time.monotonic() - started < 2
    server.close()


@contextlib.contextmanager
def process(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A server in a process of its own."""
    module = Path(__file__).with_name("doubling_policy.py")
    command = [sys.executable, str(module), str(port)]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}) as running:
        try:
            yield running
        finally:
            running.kill()


def test_a_server_that_is_killed_and_started_again_under_its_clients_loses_nothing() -> None:
    port = free_port()
    answers: dict[float, float] = {}
    lost = [0]

    def ask(first: int) -> None:
        with client_at(port) as client:
            for number in range(first, first + 40):
                while number not in answers:
                    try:
                        answers[number] = answer(client, number)
                    except (NoServerError, NoReplyError):
                        lost[0] += 1
                        client.wait_until_ready(20)
                time.sleep(0.01)

    threads = [threading.Thread(target=ask, args=(1000 * index,)) for index in range(3)]
    for how in (signal.SIGKILL, signal.SIGTERM, None):
        with process(port) as running:
            if how is signal.SIGKILL:
                for thread in threads:
                    thread.start()
            with client_at(port) as client:
                client.wait_until_ready(20)
            seen = len(answers)
            if how is None:
                for thread in threads:
                    thread.join(20)
                    assert not thread.is_alive()
                break
            while len(answers) < seen + 15:
                time.sleep(0.01)
            running.send_signal(how)
            assert running.wait(10) == (-how if how is signal.SIGKILL else 128 + how)
    assert len(answers) == 120
    assert all(got == 2 * number for number, got in answers.items())
    assert lost[0] > 0  # somebody was in the middle
