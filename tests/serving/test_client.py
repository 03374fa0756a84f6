"""The client when things go wrong. Oracle: the clock, and the texts that a user reads."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest
import zmq

from gr00t.serving.client import BaseInferenceClient, NoReplyError, NoServerError, ServerError
from gr00t.serving.robot import RobotInferenceServer
from tests.conftest import REPO
from tests.serving.recorded import TOKEN, RecordedPolicy
from tests.serving.socket_helpers import client_at, free_port, serving


def test_no_server_is_an_error_in_time_and_a_false_ping() -> None:
    client = client_at(free_port(), timeout_ms=300)
    started = time.monotonic()
    with pytest.raises(
        NoServerError,
        match=r"no server at tcp://localhost:\d+: no connection within 0\.3 seconds \(nothing listens at "
        r"127\.0\.0\.1:\d+\); start it",
    ):
        client.get_action({})
    assert 0.2 < time.monotonic() - started < 2
    assert client.ping() is False
    client.close()


def test_something_else_that_listens_is_no_server() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with client_at(other.getsockname()[1], timeout_ms=300) as client, pytest.raises(NoServerError):
            client.get_action({})


def test_peer_that_hangs_up_during_the_handshake_is_tried_again_until_the_timeout() -> None:
    """A port forwarder does so while the server behind it is not up yet."""
    hung_up = 0
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        other.settimeout(0.3)

        def hang_up() -> None:
            nonlocal hung_up
            with contextlib.suppress(TimeoutError):
                while True:
                    other.accept()[0].close()
                    hung_up += 1

        thread = threading.Thread(target=hang_up)
        thread.start()
        started = time.monotonic()
        with client_at(other.getsockname()[1], timeout_ms=600) as client, pytest.raises(NoServerError):
            client.get_action({})
        assert 0.5 < time.monotonic() - started < 3
        thread.join(5)
    assert hung_up >= 2


def test_silent_server_is_an_error_in_time_and_the_client_stays_usable() -> None:
    port = free_port()
    with client_at(port, timeout_ms=300) as client:
        with zmq.Context() as context, context.socket(zmq.REP) as silent:
            silent.linger = 0
            silent.bind(f"tcp://127.0.0.1:{port}")
            started = time.monotonic()
            with pytest.raises(
                NoReplyError, match=rf"no answer to get_action from {client.address} within 0\.3 s"
            ):
                client.get_action({})
            assert 0.2 < time.monotonic() - started < 2
            assert client.ping() is False
        with serving(port=port):
            assert client.ping(timeout_ms=5000) is True


def test_client_survives_a_restart_of_the_server() -> None:
    port = free_port()
    client = client_at(port)
    for _ in range(2):
        with serving(port=port):
            assert client.get_action({})["action.x"].shape == (16, 1)
    assert client.ping(300) is False
    with serving(port=port):
        assert client.ping() is True
    client.close()


def test_interrupted_call_leaves_the_client_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as (_, port), client_at(port) as client:
        sock = client.socket
        assert sock is not None

        def interrupt(*args: Any) -> bytes:
            raise KeyboardInterrupt

        monkeypatch.setattr(sock, "recv", interrupt)
        with pytest.raises(KeyboardInterrupt):
            client.get_action({})
        assert client.ping() is True


def test_waiting_for_a_server_that_starts_later() -> None:
    port = free_port()
    with client_at(port) as client:
        late: list[Any] = []

        def start() -> None:
            time.sleep(0.4)
            server = RobotInferenceServer(RecordedPolicy(), port=port)
            late.append(server)
            server.run()

        thread = threading.Thread(target=start)
        thread.start()
        client.wait_until_ready(10)
        assert len(late) == 1
        client.kill_server()
        thread.join(5)


def test_waiting_for_a_server_that_never_comes_says_how_to_start_one() -> None:
    port = free_port()
    started = time.monotonic()
    with client_at(port) as client, pytest.raises(NoServerError) as caught:
        client.wait_until_ready(0.3)
    assert 0.2 < time.monotonic() - started < 2
    assert str(caught.value) == (
        f"no server at tcp://localhost:{port}: waited 0.3 seconds "
        f"(nothing listens at 127.0.0.1:{port}); start it with ./run_inference_server.sh SUITE, or "
        f"python scripts/inference_service.py --server --model-path PATH_OR_HUB_ID --port {port}"
    )


def test_waiting_with_a_wrong_token_fails_at_once() -> None:
    with serving(api_token=TOKEN) as (_, port), client_at(port, api_token="wrong") as client:
        started = time.monotonic()
        with pytest.raises(ServerError, match="Server error: Unauthorized: Invalid API token"):
            client.wait_until_ready(30)
        assert time.monotonic() - started < 5


@pytest.mark.parametrize(("port", "timeout_ms"), [(0, 1), (65536, 1), (5555, 0), (5555, -1)])
def test_impossible_port_or_timeout_is_refused(port: int, timeout_ms: int) -> None:
    with pytest.raises(
        ValueError, match=r"port: expected 1 to 65535, got|timeout_ms: expected a positive number"
    ):
        BaseInferenceClient(port=port, timeout_ms=timeout_ms)


def test_closed_client_says_so() -> None:
    client = client_at(free_port())
    client.close()
    with pytest.raises(ValueError, match="is closed"):
        client.get_action({})


def test_server_that_leaves_without_an_answer_is_noticed_at_once() -> None:
    with client_at(free_port(), timeout_ms=60_000) as client, zmq.Context() as context:
        with context.socket(zmq.REP) as server:
            server.linger = 0
            server.bind(f"tcp://127.0.0.1:{client.port}")
            threading.Timer(0.3, server.close).start()
            started = time.monotonic()
            with pytest.raises(NoServerError, match="went away before it answered get_action"):
                client.get_action({})
        assert time.monotonic() - started < 10


def test_a_message_that_the_server_would_not_take_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gr00t.serving.client.MAX_MESSAGE_BYTES", 1_000)
    long = {"video.image": np.zeros(5_000, np.uint8)}
    policy = RecordedPolicy()
    with serving(policy, max_message_bytes=4_000) as (_, port), client_at(port) as client:
        with pytest.raises(
            ServerError, match=r"message of \d+ bytes; at most 4000 are accepted: .*it was not sent"
        ):
            client.get_action(long)
        assert client.get_action({"video.image": np.zeros(2_000, np.uint8)})["action.x"].shape == (16, 1)
    with serving(policy) as (server, port), client_at(port) as client:
        del server._endpoints["get_server_info"]  # as NVIDIA's, which has no bound
        assert client.get_action(long)["action.x"].shape == (16, 1)
    assert len(policy.seen) == 2


def test_clients_that_nobody_closed_do_not_hold_up_a_program() -> None:
    """After an error that refers to the client, both are collected at once, the context before its socket."""
    program = """
import gc
from gr00t.serving.client import BaseInferenceClient, NoServerError
for _ in range(20):
    client = BaseInferenceClient(port=1, timeout_ms=10)
    try:
        client.call_endpoint("get_action", {})
    except NoServerError as error:
        client.last_error = error
    del client
    gc.collect()
print("went on")
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, timeout=60, check=True, cwd=REPO
    )
    assert ended.stdout == b"went on\n"
