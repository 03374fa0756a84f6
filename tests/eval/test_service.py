"""Client and server over real sockets. Oracle: the recorded bytes of NVIDIA's two, as seen by a raw socket.

Servers run in threads on ports that the system chooses.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq

from gr00t.eval import wire
from gr00t.eval.client import (
    BaseInferenceClient,
    ExternalRobotInferenceClient,
    NoReplyError,
    NoServerError,
    ServerError,
)
from gr00t.eval.robot import RobotInferenceClient, RobotInferenceServer
from gr00t.eval.server import BindError, check_port_free
from tests.eval.recorded import MODALITY_CONFIG, TOKEN, RecordedPolicy, recorded, small_observation


@contextlib.contextmanager
def serving(policy: Any = None, **kwargs: Any) -> Iterator[tuple[RobotInferenceServer, int]]:
    """Run a server in a thread and yield it with its port."""
    server = RobotInferenceServer(policy or RecordedPolicy(), **{"port": 0, **kwargs})
    port = int(server.address.rsplit(":", 1)[1])
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield server, port
    finally:
        if server.running:
            with ExternalRobotInferenceClient(
                port=port, api_token=server.api_token, timeout_ms=5000
            ) as client:
                client.kill_server()
        thread.join(5)
        assert not thread.is_alive()


@contextlib.contextmanager
def raw(kind: int, port: int) -> Iterator[zmq.Socket[bytes]]:
    """Connect a bare ZeroMQ socket, as somebody else's client would."""
    with zmq.Context() as context, context.socket(kind) as sock:
        sock.linger = 0
        sock.rcvtimeo = sock.sndtimeo = 5000
        sock.connect(f"tcp://127.0.0.1:{port}")
        yield sock


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def client_at(port: int, timeout_ms: int = 5000, **kwargs: Any) -> ExternalRobotInferenceClient:
    return ExternalRobotInferenceClient(port=port, timeout_ms=timeout_ms, **kwargs)


def test_bare_req_client_gets_the_recorded_bytes_for_every_recorded_request() -> None:
    pairs = [
        ("req_ping", "resp_ping"),
        ("req_get_action_small", "resp_get_action"),
        ("req_get_action_libero", "resp_get_action"),
        ("req_get_action_token", "resp_get_action"),
        ("req_get_modality_config", "resp_get_modality_config"),
        ("req_kill", "resp_kill"),
    ]
    with serving() as (_, port), raw(zmq.REQ, port) as sock:
        for request, reply in pairs:
            sock.send(recorded(request))
            assert sock.recv() == recorded(reply), request
    check_port_free("localhost", port)


@pytest.mark.parametrize(
    ("call", "token", "request_name", "reply_name"),
    [
        (lambda c: c.ping(), None, "req_ping", "resp_ping"),
        (lambda c: c.get_action(small_observation()), None, "req_get_action_small", "resp_get_action"),
        (lambda c: c.get_action(small_observation()), TOKEN, "req_get_action_token", "resp_get_action"),
        (lambda c: c.get_modality_config(), None, "req_get_modality_config", "resp_get_modality_config"),
        (lambda c: c.kill_server(), None, "req_kill", "resp_kill"),
    ],
)
def test_client_sends_the_recorded_bytes_and_reads_the_recorded_replies(
    call: Callable[[ExternalRobotInferenceClient], Any], token: str | None, request_name: str, reply_name: str
) -> None:
    with zmq.Context() as context, context.socket(zmq.REP) as nvidia:
        port = nvidia.bind_to_random_port("tcp://127.0.0.1")
        nvidia.rcvtimeo = 5000
        got: list[Any] = []
        with client_at(port, api_token=token) as client:
            thread = threading.Thread(target=lambda: got.append(call(client)))
            thread.start()
            assert nvidia.recv() == recorded(request_name)
            nvidia.send(recorded(reply_name))
            thread.join(5)
    if reply_name == "resp_get_action":
        assert sorted(got[0]) == sorted(wire.unpack(recorded(reply_name)))
        assert got[0]["action.x"].shape == (16, 1)
        np.testing.assert_allclose(
            got[0]["action.x"][:2, 0], [0.012061349116265774, 0.13018326461315155], rtol=0
        )
    elif reply_name == "resp_get_modality_config":
        assert got[0] == MODALITY_CONFIG
    else:
        assert got == [{"req_ping": True, "req_kill": None}[request_name]]


def test_frame_seen_through_negative_strides_arrives_as_it_looks() -> None:
    frame = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)[::-1, ::-1]
    policy = RecordedPolicy()
    with serving(policy) as (_, port), client_at(port) as client:
        client.get_action({"video.image": frame[None]})
    assert policy.seen[0][0]["video.image"].tolist() == [frame.tolist()]


def test_seed_and_report_reach_the_other_side() -> None:
    policy = RecordedPolicy()
    with serving(policy) as (_, port), client_at(port) as client:
        client.get_action({}, seed=7)
        client.get_action({})
        assert client.get_quantization_report() == {"enabled": False}
    assert [options for _, options in policy.seen] == [{"seeds": 7}, {}]


def test_error_reply_is_raised_with_the_recorded_text() -> None:
    with serving() as (_, port), client_at(port) as client:
        with pytest.raises(ServerError) as caught:
            client.call_endpoint("nope")
        assert str(caught.value) == "Server error: Unknown endpoint: nope"
        assert caught.value.reply == "Unknown endpoint: nope"
        assert client.ping()


def test_clients_of_n1_5_construct_and_work_by_position() -> None:
    with serving(api_token=TOKEN) as (_, port):
        robot = RobotInferenceClient("localhost", port, TOKEN)
        assert robot.ping() is True
        assert robot.get_modality_config() == MODALITY_CONFIG
        assert BaseInferenceClient("localhost", port, 15000, TOKEN).call_endpoint("ping", None, False) == {
            "status": "ok",
            "message": "Server is running",
        }


def test_no_server_is_an_error_in_time_and_a_false_ping() -> None:
    client = client_at(free_port(), timeout_ms=300)
    started = time.monotonic()
    with pytest.raises(
        NoServerError, match=r"no server at tcp://localhost:\d+: no connection within 0\.3 seconds"
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
    with client_at(port) as client, pytest.raises(NoServerError) as caught:
        client.wait_until_ready(0.3)
    assert str(caught.value) == (
        f"no server at tcp://localhost:{port}: waited 0.3 seconds; "
        "start it with ./run_inference_server.sh SUITE, or "
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


class SlowPolicy(RecordedPolicy):
    """Takes its time, and says when it has begun."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()

    def get_action(self, observations: dict[str, Any], **options: Any) -> dict[str, Any]:
        self.begun.set()
        time.sleep(0.3)
        return super().get_action(observations, **options)


def test_client_that_dies_in_the_middle_does_not_hurt_the_next() -> None:
    policy = SlowPolicy()
    with serving(policy) as (_, port):
        with raw(zmq.REQ, port) as doomed:
            doomed.send(recorded("req_get_action_small"))
            assert policy.begun.wait(5)
        with client_at(port) as client:
            assert client.get_action(small_observation())["action.x"].shape == (16, 1)
    assert len(policy.seen) == 2


def test_clients_at_the_same_time_each_get_their_own_answer() -> None:
    class Echo(RecordedPolicy):
        def get_action(self, observations: dict[str, Any], **options: Any) -> dict[str, Any]:
            time.sleep(0.002)
            return {"action.x": observations["state.x"]}

    wrong: list[float] = []

    def ask(number: float) -> None:
        with client_at(port) as client:
            for step in range(10):
                sent = np.full((1, 1), number + step)
                if client.get_action({"state.x": sent})["action.x"] != sent:
                    wrong.append(number + step)

    with serving(Echo()) as (_, port):
        threads = [threading.Thread(target=ask, args=(100.0 * index,)) for index in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert wrong == []


def test_strange_peers_do_not_disturb_the_server() -> None:
    with serving(max_message_bytes=10_000) as (_, port):
        with socket.create_connection(("127.0.0.1", port)) as tcp:
            tcp.sendall(b"GET / HTTP/1.1\r\nHost: robot\r\n\r\n" + bytes(range(256)))
        with raw(zmq.DEALER, port) as dealer:
            dealer.send(recorded("req_ping"))  # no envelope: a REP socket drops it, and so do we
            dealer.send_multipart([b"", b"one", b"two"])
            reply = dealer.recv_multipart()
            assert wire.unpack(reply[-1]) == {"error": "request: expected one message part, got 2"}
            dealer.send_multipart([b"7", b"", recorded("req_ping")])  # a longer envelope comes back whole
            assert dealer.recv_multipart() == [b"7", b"", recorded("resp_ping")]
        with raw(zmq.REQ, port) as sock:
            for payload, text in [
                (b"\xc1", "not a msgpack message: invalid byte"),
                (b"x" * 10_001, "message of 10001 bytes; at most 10000 are accepted"),
                (msgpack.packb([1]), "request: expected a map with endpoint and data, got list"),
            ]:
                sock.send(payload)
                assert wire.unpack(sock.recv()) == {"error": text}
        with raw(zmq.REQ, port) as sock:
            sock.rcvtimeo = 200
            sock.send(b"x" * 20_001)  # more than twice the bound: cut off, unread
            with pytest.raises(zmq.Again):
                sock.recv()
        with client_at(port) as client:
            assert client.ping() is True


def test_port_in_use_is_found_before_and_at_binding() -> None:
    with serving() as (_, port):
        text = (
            rf"cannot listen on tcp://127\.0\.0\.1:{port}: Address already in use; "
            "stop what listens there or choose another port"
        )
        with pytest.raises(BindError, match=text):
            check_port_free("localhost", port)
        with pytest.raises(BindError, match=text):
            RobotInferenceServer(RecordedPolicy(), port=port)
    check_port_free("localhost", port)


def test_checking_a_port_does_not_open_it() -> None:
    port = free_port()
    check_port_free("localhost", port)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


@pytest.mark.parametrize("host", ["no-such-host.invalid", "::1", "256.0.0.1"])
def test_unknown_host_is_refused_by_name(host: str) -> None:
    with pytest.raises(BindError, match=f"host '{host}': not a name or IPv4 address"):
        check_port_free(host, 5555)


def test_address_of_another_machine_is_refused() -> None:
    # 192.0.2.0/24 is reserved for documentation: no machine has it.
    with pytest.raises(BindError, match=r"cannot listen on tcp://192\.0\.2\.1:5555: Cannot assign"):
        check_port_free("192.0.2.1", 5555)


def test_open_server_without_token_warns_and_still_obeys_its_own_machine(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with serving(host="0.0.0.0") as (server, port):
        assert "is open to other machines and has no API token" in caplog.text
        with client_at(port) as client:
            client.kill_server()
    assert not server.running
