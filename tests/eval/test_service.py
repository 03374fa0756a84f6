"""Client and server over real sockets. Oracle: the recorded bytes of NVIDIA's two, as seen by a raw socket.

Servers run in threads on ports that the system chooses.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq

from gr00t.serving.client import (
    BaseInferenceClient,
    ExternalRobotInferenceClient,
    ServerError,
)
from gr00t.serving.robot import RobotInferenceClient, RobotInferenceServer
from gr00t.serving.sockets.address import BindError, check_port_free
from gr00t.serving.wires import n1_5 as wire
from tests.serving.recorded import MODALITY_CONFIG, TOKEN, RecordedPolicy, recorded, small_observation
from tests.serving.socket_helpers import client_at, free_port, raw, serving


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


TOO_LONG = (
    "message of {} bytes; at most 10000 are accepted: send fewer samples, or smaller frames, in each request"
)


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
                (b"x" * 10_001, TOO_LONG.format(10_001)),
                (b"x" * 5_000_000, TOO_LONG.format(5_000_000)),  # answered while it is still coming
                (msgpack.packb([1]), "request: expected a map with endpoint and data, got list"),
            ]:
                sock.send(payload)
                assert wire.unpack(sock.recv()) == {"error": text}
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


@pytest.mark.parametrize("port", [-1, 65536])
def test_impossible_port_is_refused(port: int) -> None:
    with pytest.raises(BindError, match=f"port: expected 0 to 65535, got {port}"):
        check_port_free("localhost", port)


def test_checking_a_port_does_not_open_it() -> None:
    port = free_port()
    check_port_free("localhost", port)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


@pytest.mark.parametrize("host", ["no-such-host.invalid", "::g", "256.0.0.1", "127.0.0.1\0"])
def test_unknown_host_is_refused_by_name(host: str) -> None:
    with pytest.raises(BindError, match=re.escape(f"host {host!r}: not a name or address")):
        check_port_free(host, 5555)


def test_an_empty_host_is_not_every_interface() -> None:
    """As the system would take it: `--host "$HOST"` with a variable that is not there."""
    with pytest.raises(BindError, match="host: is empty; give a name or address"):
        RobotInferenceServer(RecordedPolicy(), host="", port=0)


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
