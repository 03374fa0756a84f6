"""Oracle: NVIDIA's recorded answers, byte for byte; for everything else, an error reply that names the thing.

No socket here: `handle` takes the bytes of a message and returns those of the reply.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gr00t.serving.endpoints import RequestError
from gr00t.serving.robot import RobotInferenceServer
from gr00t.serving.sockets.address import resolve_host
from gr00t.serving.wires import n1_5 as wire
from tests.serving.recorded import TOKEN, RecordedPolicy, recorded, small_observation
from tests.serving.wires.test_n1_5 import saved_by_torch


@pytest.fixture
def server() -> Iterator[RobotInferenceServer]:
    server = RobotInferenceServer(RecordedPolicy(), port=0)
    yield server
    server.close()


@pytest.fixture
def guarded() -> Iterator[RobotInferenceServer]:
    server = RobotInferenceServer(RecordedPolicy(), port=0, api_token=TOKEN)
    yield server
    server.close()


def error(server: RobotInferenceServer, request: Any, **kwargs: Any) -> str:
    payload = request if isinstance(request, bytes) else wire.pack(request)
    return wire.unpack(server.handle(payload, **kwargs))["error"]


@pytest.mark.parametrize(
    ("request_name", "reply_name"),
    [
        ("req_ping", "resp_ping"),
        ("req_get_action_small", "resp_get_action"),
        ("req_get_action_libero", "resp_get_action"),
        ("req_get_action_token", "resp_get_action"),  # a server without a token takes any
        ("req_get_modality_config", "resp_get_modality_config"),
    ],
)
def test_recorded_request_gets_the_recorded_reply(
    server: RobotInferenceServer, request_name: str, reply_name: str
) -> None:
    assert server.handle(recorded(request_name)) == recorded(reply_name)


def test_policy_sees_the_observation_that_was_sent(server: RobotInferenceServer) -> None:
    server.handle(recorded("req_get_action_libero"))
    observation, options = server.model.seen[0]
    assert observation["video.image"].shape == (1, 256, 256, 3)
    assert observation["video.image"].sum() == 25045314
    assert observation["state.gripper"].dtype == np.float64
    assert observation["state.gripper"].tolist() == [[-0.13296462619027172, -1.1714889676994336]]
    assert observation["annotation.human.action.task_description"] == [
        "put the wine bottle on top of the cabinet"
    ]
    assert options == {}


def test_recorded_errors_and_kill_have_their_bytes(
    server: RobotInferenceServer, guarded: RobotInferenceServer
) -> None:
    assert server.handle(wire.pack({"endpoint": "nope"})) == recorded("resp_error")
    assert guarded.handle(recorded("req_ping")) == recorded("resp_unauthorized")
    assert guarded.handle(recorded("req_kill"), from_loopback=True) == recorded("resp_unauthorized")
    assert guarded.handle(recorded("req_get_action_token")) == recorded("resp_get_action")
    assert server.running
    assert server.handle(recorded("req_kill"), from_loopback=True) == recorded("resp_kill")
    assert not server.running


def test_request_without_endpoint_is_get_action(server: RobotInferenceServer) -> None:
    assert server.handle(wire.pack({"data": small_observation()})) == recorded("resp_get_action")


@pytest.mark.parametrize(
    "token", ["Secret", "secre", "", "secret ", 7, None, ["secret"], b"secret", "sécret"]
)
def test_any_other_token_gets_the_recorded_refusal(guarded: RobotInferenceServer, token: object) -> None:
    request = wire.pack({"endpoint": "get_action", "data": {}, "api_token": token})
    assert guarded.handle(request) == recorded("resp_unauthorized")
    assert guarded.model.seen == []


def test_kill_obeys_its_own_machine_or_the_token(
    server: RobotInferenceServer, guarded: RobotInferenceServer
) -> None:
    assert error(server, recorded("req_kill")) == (
        "kill: refused to another machine; start the server with an API token and send it"
    )
    assert server.running
    assert guarded.handle(wire.pack({"endpoint": "kill", "api_token": TOKEN})) == recorded("resp_kill")
    assert not guarded.running


@pytest.mark.parametrize(
    ("request_body", "text"),
    [
        (b"\xff" * 20, "unpack(b) received extra data."),
        (recorded("req_get_action_small")[:1000], "not a msgpack message: "),
        (5, "request: expected a map with endpoint and data, got int"),
        ([], "request: expected a map with endpoint and data, got list"),
        ({"endpoint": 7}, "endpoint: expected text, got int"),
        ({"endpoint": ["ping"]}, "endpoint: expected text, got list"),
        ({"endpoint": "x" * 5000}, "Unknown endpoint: " + "x" * 200),
        ({"endpoint": "get_action", "data": None}, "data: expected a map of observations, got NoneType"),
        ({"endpoint": "get_action", "data": [1]}, "data: expected a map of observations, got list"),
        ({"endpoint": "get_action", "options": []}, "options: expected a map, got list"),
        (
            {"endpoint": "get_action", "options": {"sed": 1}},
            "options: unknown option 'sed'; did you mean seed?",
        ),
        ({"endpoint": "get_action", "options": {"x": 1}}, "options: unknown option 'x'; known: seed"),
        ({"endpoint": "ping", "options": {"seed": 1}}, "options: unknown option 'seed'; ping takes none"),
        (
            {"endpoint": "get_action", "options": {"seed": -1}},
            "options: seed: expected an integer from 0 to 2^63 - 1, got -1",
        ),
        (
            {"endpoint": "get_action", "options": {"seed": True}},
            "options: seed: expected an integer from 0 to 2^63 - 1, got True",
        ),
        (
            {"endpoint": "get_action", "options": {"seed": 2**63}},
            "options: seed: expected an integer from 0 to 2^63 - 1, got 9223372036854775808",
        ),
    ],
)
def test_wrong_request_gets_an_error_that_names_the_field(
    server: RobotInferenceServer, request_body: Any, text: str
) -> None:
    assert error(server, request_body).startswith(text)
    assert len(error(server, request_body)) < 400
    assert server.model.seen == []
    assert server.handle(recorded("req_ping")) == recorded("resp_ping")


def test_message_size_is_bounded() -> None:
    server = RobotInferenceServer(RecordedPolicy(), port=0, max_message_bytes=1000)
    assert error(server, b"\x00" * 1001) == (
        "message of 1001 bytes; at most 1000 are accepted: send fewer samples, or smaller frames, in each "
        "request"
    )
    assert server.handle(recorded("req_ping")) == recorded("resp_ping")
    server.close()


def test_seed_reaches_the_policy_and_only_when_sent(server: RobotInferenceServer) -> None:
    request = {"endpoint": "get_action", "data": {}}
    server.handle(wire.pack({**request, "options": {"seed": 7}}))
    server.handle(wire.pack({**request, "options": {}}))
    assert [options for _, options in server.model.seen] == [{"seeds": 7}, {}]


class ObservationError(ValueError):
    """Stands for the policy's own class."""


ObservationError.__module__ = "gr00t.model.policy"


@pytest.mark.parametrize(
    ("raised", "text", "traceback"),
    [
        (ObservationError("state.x: not finite"), "state.x: not finite", False),
        (ValueError("odd"), "odd", True),
        (KeyError("state.x"), "KeyError: 'state.x'", True),
        (RuntimeError("out of memory"), "RuntimeError: out of memory", True),
        (RecursionError("too deep"), "RecursionError: too deep", True),
        (ValueError("lone \udcff surrogate"), "lone ? surrogate", True),
    ],
)
def test_failure_of_the_policy_becomes_an_error_reply_and_a_traceback_where_it_is_a_surprise(
    server: RobotInferenceServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    raised: Exception,
    text: str,
    traceback: bool,
) -> None:
    def fail(observations: dict[str, Any]) -> dict[str, Any]:
        raise raised

    monkeypatch.setattr(server.model, "get_action", fail)
    with caplog.at_level(logging.WARNING, logger="gr00t"):
        assert error(server, recorded("req_get_action_small")) == text
    assert (caplog.records[-1].exc_info is not None) == traceback
    assert server.handle(recorded("req_ping")) == recorded("resp_ping")


def test_result_that_cannot_be_packed_is_an_error_reply(
    server: RobotInferenceServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.model, "get_action", lambda observations: {"action.x": {1}})
    assert error(server, recorded("req_get_action_small")) == (
        "PackError: action.x: cannot be sent: can not serialize 'set' object"
    )


def test_policy_without_a_report_has_no_such_endpoint(server: RobotInferenceServer) -> None:
    class Bare:
        get_action = RecordedPolicy.get_action
        get_modality_config = RecordedPolicy.get_modality_config

    request = wire.pack({"endpoint": "get_quantization_report"})
    assert wire.unpack(server.handle(request)) == {"enabled": False}
    bare = RobotInferenceServer(Bare(), port=0)
    assert error(bare, request) == "Unknown endpoint: get_quantization_report"
    bare.close()


def test_own_endpoints_can_be_registered(server: RobotInferenceServer) -> None:
    server.register_endpoint("double", lambda data: {"value": 2 * data["value"]})
    server.register_endpoint("hello", lambda name="you": {"text": name}, False, options=["name"])
    assert wire.unpack(server.handle(wire.pack({"endpoint": "double", "data": {"value": 4}}))) == {"value": 8}
    assert wire.unpack(server.handle(wire.pack({"endpoint": "hello"}))) == {"text": "you"}
    named = wire.pack({"endpoint": "hello", "options": {"name": "me"}})
    assert wire.unpack(server.handle(named)) == {"text": "me"}


def test_empty_token_is_refused() -> None:
    with pytest.raises(RequestError, match="api_token: is empty"):
        RobotInferenceServer(RecordedPolicy(), port=0, api_token="")
    # As the system hands over an argument that is no UTF-8.
    with pytest.raises(RequestError, match="api_token: is not UTF-8"):
        RobotInferenceServer(RecordedPolicy(), port=0, api_token="\udcff")


def test_star_is_every_interface_and_localhost_is_loopback() -> None:
    assert resolve_host("*") == "0.0.0.0"
    assert resolve_host("localhost") == "127.0.0.1"


FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SEEDS = [
    recorded("req_ping"),
    recorded("req_get_action_small"),
    recorded("arrays"),
    recorded("req_get_action_token"),
]


def assert_replies(server: RobotInferenceServer, payload: bytes) -> None:
    reply = wire.unpack(server.handle(payload))
    assert isinstance(reply, dict)
    assert (
        "error" in reply or "status" in reply or "action.x" in reply or "video" in reply or "enabled" in reply
    )
    assert server.running


@FUZZ
@given(st.binary(max_size=200))
def test_fuzz_random_bytes(server: RobotInferenceServer, payload: bytes) -> None:
    assert_replies(server, payload)


@FUZZ
@given(st.data())
def test_fuzz_mutated_messages(server: RobotInferenceServer, data: st.DataObject) -> None:
    payload = bytearray(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(1, 4))):
        # Most of a message is pixels; the header bytes at its front are where the format is.
        at = data.draw(st.integers(0, min(400, len(payload) - 1)))
        action = data.draw(st.sampled_from(["set", "cut", "insert", "delete"]))
        if action == "set":
            payload[at] = data.draw(st.integers(0, 255))
        elif action == "cut":
            payload = payload[: at + 1]
        elif action == "insert":
            payload[at:at] = data.draw(st.binary(min_size=1, max_size=9))
        else:
            del payload[at : at + data.draw(st.integers(1, 9))]
        payload = payload or bytearray(b"\x80")
    assert_replies(server, bytes(payload))


JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.binary(), inner, max_size=4),
    max_leaves=12,
)
FIELDS = [
    "endpoint",
    "data",
    "options",
    "api_token",
    "__ndarray_class__",
    "as_npy",
    "__ModalityConfig_class__",
]


@FUZZ
@given(
    st.dictionaries(
        st.sampled_from([*FIELDS, "as_json"]), JSON_LIKE | st.sampled_from(["get_action", "ping"])
    )
)
def test_fuzz_well_formed_messages_of_wrong_content(
    server: RobotInferenceServer, request_body: dict[str, Any]
) -> None:
    assert_replies(server, msgpack.packb(request_body))


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("token", [None, TOKEN])
def test_a_client_of_the_old_wire_is_told_by_name_and_so_is_the_log(
    token: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = RobotInferenceServer(RecordedPolicy(), port=0, api_token=token)
    made = pickle.dumps({"endpoint": "get_action", "data": Touch(tmp_path / "ran")})
    for payload, name in [
        (saved_by_torch(legacy=False), "was written by torch.save"),
        (saved_by_torch(legacy=True), "is a pickle"),
        (made, "is a pickle"),
    ]:
        text = error(server, payload)
        assert text.startswith(f"this message {name}, which was the format of Isaac-GR00T clients before")
        assert f"request refused: {text}" in caplog.messages
    assert not (tmp_path / "ran").exists()
    pickle.loads(made)
    assert (tmp_path / "ran").exists()  # else this would prove nothing
    server.close()
