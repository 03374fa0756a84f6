"""Many clients over HTTP, and ours. Oracle: which requests the policy saw together, and every answer."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
import time

import numpy as np
import pytest

from gr00t.serving.client import NoReplyError, NoServerError, ServerError
from gr00t.serving.http import server as http_server
from gr00t.serving.http.client import HTTPInferenceClient
from gr00t.serving.http.server import HTTPInferenceServer, create_http_server
from gr00t.serving.sockets import zmtp
from tests.serving.doubling_policy import DoublingPolicy
from tests.serving.http.http_sockets import (
    ACT,
    ask,
    doubled,
    number,
    read_reply,
    request_bytes,
    serving_http,
)
from tests.serving.recorded import TOKEN, small_observation
from tests.serving.socket_helpers import free_port
from tests.serving.test_strangers import is_hung_up, stranger


def test_requests_of_many_share_a_forward_with_the_worker_of_zeromq() -> None:
    policy = DoublingPolicy()
    answers: dict[int, float] = {}
    with serving_http(policy) as (server, port):
        policy.gate.clear()
        threads = [
            threading.Thread(target=lambda i=i: answers.update({i: doubled(ask(port, number(i)))}))
            for i in range(9)
        ]
        threads[0].start()
        assert policy.begun.acquire(timeout=5)
        for thread in threads[1:]:
            thread.start()
        until = time.monotonic() + 5
        while server.worker.waiting < 8 and time.monotonic() < until:
            time.sleep(0.01)
        started = time.monotonic()
        assert ask(port, path="/health", method="GET").status == 200  # while a forward runs
        assert time.monotonic() - started < 1
        policy.gate.set()
        for thread in threads:
            thread.join(10)
    assert answers == {i: 2.0 * i for i in range(9)}
    assert [len(batch) for batch in policy.batches] == [1, 8]


def test_nothing_is_computed_for_who_has_gone_and_a_half_closed_one_is_answered() -> None:
    policy = DoublingPolicy()
    with serving_http(policy, max_batch=1) as (server, port), contextlib.ExitStack() as stack:
        policy.gate.clear()
        first = stack.enter_context(stranger(port, request_bytes(port, number(1))))
        first.shutdown(socket.SHUT_WR)
        assert policy.begun.acquire(timeout=5)
        for _ in range(5):
            with stranger(port, request_bytes(port, number(666))):
                until = time.monotonic() + 5
                while server.worker.waiting < 1 and time.monotonic() < until:
                    time.sleep(0.001)
        time.sleep(1.0)
        policy.gate.set()
        assert doubled(read_reply(first)) == 2
        assert doubled(ask(port, number(3))) == 6
    assert policy.batches == [[1.0], [3.0]]


def test_a_second_request_before_the_first_is_answered_is_the_end_of_both() -> None:
    policy = DoublingPolicy()
    with serving_http(policy) as (_, port):
        policy.gate.clear()
        with stranger(port, request_bytes(port, ACT)) as tcp:
            assert policy.begun.acquire(timeout=5)
            tcp.sendall(request_bytes(port, ACT))
            assert is_hung_up(tcp)
        policy.gate.set()
        assert doubled(ask(port, ACT)) == 2


def test_what_all_peers_make_us_hold_is_bounded_over_http_too() -> None:
    with (
        serving_http(DoublingPolicy(), max_message_bytes=300_000) as (server, port),
        contextlib.ExitStack() as stack,
    ):
        server.connections._max_held = 1_000_000
        for _ in range(12):
            tcp = stack.enter_context(stranger(port))
            tcp.sendall(request_bytes(port, bytes(250_000))[:-50_000])
            assert ask(port, path="/health", method="GET").status == 200
            assert server.connections.held <= 1_000_000
        assert doubled(ask(port, ACT)) == 2


def test_a_busy_server_says_503_and_the_client_asks_again() -> None:
    policy = DoublingPolicy()
    with serving_http(policy, max_waiting=1) as (_, port), stranger(port) as first, stranger(port) as second:
        policy.gate.clear()
        first.sendall(request_bytes(port, number(1)))
        assert policy.begun.acquire(timeout=5)
        second.sendall(request_bytes(port, number(2)))
        time.sleep(0.2)
        reply = ask(port, number(3))
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        assert reply.content["detail"].startswith("busy: 1 requests of")
        with pytest.raises(NoReplyError, match="did not take /act"):
            HTTPInferenceClient(port=port, timeout_ms=300).get_action({"state.x": np.array([[3.0]])})
        threading.Timer(0.3, policy.gate.set).start()
        action = HTTPInferenceClient(port=port, timeout_ms=10_000).get_action({"state.x": np.array([[3.0]])})
        assert action["action.x"] == 6


def test_what_waits_when_the_server_is_told_to_end_gets_503() -> None:
    policy = DoublingPolicy()
    with (
        serving_http(policy, max_batch=1) as (server, port),
        stranger(port) as first,
        stranger(port) as second,
    ):
        policy.gate.clear()
        first.sendall(request_bytes(port, number(1)))
        assert policy.begun.acquire(timeout=5)
        second.sendall(request_bytes(port, number(2)))
        time.sleep(0.2)
        server.running = False
        server.connections.wake()
        time.sleep(0.1)
        policy.gate.set()
        assert doubled(read_reply(first)) == 2
        reply = read_reply(second)
        assert (reply.status, reply.content["detail"][:10]) == (503, "stopping: ")


def test_curl_waits_for_leave_to_send_a_long_body() -> None:
    body = json.dumps(ACT).encode()
    with serving_http(DoublingPolicy()) as (_, port), stranger(port) as tcp:
        tcp.sendall(request_bytes(port, body, Expect="100-continue")[: -len(body)])
        assert tcp.recv(1000).startswith(b"HTTP/1.1 100 ")
        tcp.sendall(body)
        assert doubled(read_reply(tcp)) == 2


def test_a_client_that_offers_http_2_is_answered_in_http_1() -> None:
    """Java's does so with every request, and curl --http2."""
    offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2_Settings": "AAEAAEAAAAIAAAAB"}
    with serving_http(DoublingPolicy()) as (_, port), stranger(port) as tcp:
        for value in (1, 2):
            tcp.sendall(request_bytes(port, number(value), **offer))
            assert doubled(read_reply(tcp)) == 2 * value


def test_a_body_in_chunks_of_one_byte_is_read_in_small_turns() -> None:
    body = json.dumps(ACT).encode()
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body + b" " * 50_000) + b"0\r\n\r\n"
    with serving_http(DoublingPolicy()) as (_, port), stranger(port) as tcp:
        head = request_bytes(port, b"", Transfer_Encoding="chunked", Content_Length="")
        tcp.sendall(head + chunks)
        started = time.monotonic()
        assert ask(port, path="/health", method="GET").status == 200
        assert time.monotonic() - started < 0.5
        assert doubled(read_reply(tcp)) == 2


def test_a_connection_that_is_to_be_closed_is_closed_after_the_reply() -> None:
    with serving_http(DoublingPolicy()) as (_, port):
        with stranger(port, request_bytes(port, ACT, Connection="close")) as tcp:
            assert doubled(read_reply(tcp)) == 2
            assert tcp.recv(1) == b""
        old = request_bytes(port, ACT, Connection="").replace(b"HTTP/1.1", b"HTTP/1.0")
        with stranger(port, old) as tcp:
            assert doubled(read_reply(tcp)) == 2
            assert tcp.recv(1) == b""


def test_the_client_gets_every_answer_and_every_error() -> None:
    with serving_http(api_token=TOKEN) as (_, port):
        client = HTTPInferenceClient("localhost", port, api_token=TOKEN)
        assert client.is_healthy()
        assert client.get_action(small_observation(), seed=3)["action.x"].shape == (16, 1)
        assert client.get_quantization_report() == {"enabled": False}
        assert client.get_server_info()["max_batch"] == 16
        with pytest.raises(ServerError, match=r"Unauthorized: Invalid API token; .* \(HTTP 401\)"):
            HTTPInferenceClient(port=port, api_token="wrong").get_action({})
        with pytest.raises(
            TypeError, match=r"observation: state\.x: cannot be sent: can not serialize 'set' object"
        ):
            client.get_action({"state.x": {1}})
    assert not client.is_healthy()
    with pytest.raises(NoServerError, match=rf"no HTTP server at http://localhost:{port}: .*--http-server"):
        client.get_action({})
    with pytest.raises(NoServerError, match="not a name or address that is known here"):
        HTTPInferenceClient("nosuch.invalid").get_action({})


def test_no_reply_in_time_is_told() -> None:
    policy = DoublingPolicy()
    with serving_http(policy) as (_, port):
        policy.gate.clear()
        with pytest.raises(
            NoReplyError, match=r"no answer to /act from http://localhost:.* within 0\.3 seconds"
        ):
            HTTPInferenceClient(port=port, timeout_ms=300).get_action({"state.x": np.array([[1.0]])})
        policy.gate.set()


def test_the_names_of_n1_5_and_the_address_that_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    server = create_http_server(DoublingPolicy(), 0)
    assert isinstance(server, HTTPInferenceServer)
    server.close()
    port = free_port()
    with serving_http(DoublingPolicy(), port=port) as (_, _):
        pass
    assert f"Server is ready and listening on http://127.0.0.1:{port}" in caplog.messages
    assert any(
        line.startswith("Over HTTP can be asked: POST /act, GET /health, ") for line in caplog.messages
    )
    assert http_server.HTTPInferenceServer.scheme == "http"
    assert zmtp.ZmtpConversation.first_of_reply == b"\x01"
