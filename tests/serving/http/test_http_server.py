"""HTTP as N1.5 has it. Oracle: the form of json-numpy and of N1.5's replies, and the answers over ZeroMQ."""

from __future__ import annotations

import json
import socket
from typing import Any

import numpy as np
import pytest

from tests.serving.doubling_policy import DoublingPolicy
from tests.serving.http.http_sockets import (
    ACT,
    as_json_numpy,
    ask,
    doubled,
    number,
    read_reply,
    request_bytes,
    serving_http,
)
from tests.serving.recorded import RecordedPolicy, recorded, small_observation
from tests.serving.socket_helpers import client_at, serving


@pytest.mark.parametrize("wrap", [lambda content: content, lambda content: {"encoded": json.dumps(content)}])
def test_an_act_request_of_n1_5_is_answered_as_over_zeromq(wrap: Any) -> None:
    observation = small_observation()
    policy = RecordedPolicy()
    with serving_http(policy) as (_, port):
        reply = ask(port, wrap({"observation": as_json_numpy(observation)}))
    with serving() as (_, port), client_at(port) as client:
        expected = client.get_action(observation)
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.content == as_json_numpy(expected)
    (seen, _), *others = policy.seen
    assert not others
    assert list(seen) == list(observation)
    for key, value in observation.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(seen[key], value, strict=True)
            assert seen[key].flags.writeable
        else:
            assert seen[key] == value


def test_what_else_can_be_asked() -> None:
    with serving_http(DoublingPolicy()) as (_, port):
        get = {"method": "GET", "Content_Type": ""}
        assert ask(port, path="/health", **get).content == {"status": "healthy", "model": "GR00T"}
        assert ask(port, path="/quantization_report", **get).content == {"enabled": False}
        assert ask(port, path="/server_info", **get).content["max_message_bytes"] == 64 * 1024 * 1024
        assert ask(port, path="/modality_config", **get).content == {}
    with serving_http() as (_, port):
        config = ask(port, path="/modality_config", **get).content
        assert config["video"] == {
            "delta_indices": [0],
            "modality_keys": ["video.image", "video.wrist_image"],
        }


TEXTS = {
    "no observation": ({}, 400, "Missing 'observation' field in payload, which has nothing"),
    "another key": ({"obs": 1}, 400, "Missing 'observation' field in payload, which has 'obs'"),
    "a list": ([1], 400, "expected an object with 'observation', got list"),
    "encoded twice": (
        {"encoded": "{}", "observation": 1},
        400,
        "'encoded' must be a text and all that there is",
    ),
    "encoded object": ({"encoded": {}}, 400, "'encoded' must be a text and all that there is"),
    "encoded nonsense": ({"encoded": "{"}, 422, "not JSON: Expecting property name"),
    "half a text": (b'{"observation": ', 422, "not JSON: Expecting value"),
    "no text": (b"\xff\xfe\x00", 422, "not JSON: "),
    "nothing": (b"", 422, "not JSON: "),
    "msgpack": (recorded("req_ping"), 422, "not JSON: "),
    "too deep": (b'{"observation": ' + b"[" * 100_000, 422, "not JSON: "),
    "too many": (
        b"[" + b"1," * 1_000_001 + b"1]",
        422,
        "JSON with more than 1000000 values; send numbers as arrays",
    ),
    "too many inside": ({"encoded": "[" + "[]," * 600_000 + "1]"}, 422, "JSON with more than 1000000 values"),
    "too many keys": (
        {"observation": {f"k{n}": n for n in range(50_001)}},
        422,
        "JSON with more than 50000 keys",
    ),
    "a long number": (b'{"observation": ' + b"1" * 5_000 + b"}", 422, "a number of 5000 digits"),
    "half a character": (b'{"encoded": "\\ud800"}', 422, "not JSON: "),
    "no map": ({"observation": 5}, 400, "data: expected a map of observations, got int"),
    "object array": (
        {"observation": {"a": {"__numpy__": "gAROLg==", "dtype": "|O", "shape": [1]}}},
        400,
        "observation: a: array: '|O' is none of the plain types",
    ),
    "record": (
        {"observation": {"a": {"__numpy__": "", "dtype": [["a", "<f4"]], "shape": [0]}}},
        400,
        "observation: a: array: dtype must be text, got list",
    ),
    "a terabyte": (
        {"observation": {"a": {"__numpy__": "", "dtype": "<f8", "shape": [10**6, 10**6]}}},
        400,
        "observation: a: array: <f8 of shape (1000000, 1000000) takes 8000000000000 bytes, got 0",
    ),
    "negative": (
        {"observation": {"a": {"__numpy__": "", "dtype": "<f8", "shape": [-1]}}},
        400,
        "observation: a: array: shape must be a list of sizes, got [-1]",
    ),
    "no shape": (
        {"observation": {"a": {"__numpy__": "", "dtype": "<f8"}}},
        400,
        "observation: a: array: shape must be a list of sizes, got None",
    ),
    "no base64": (
        {"observation": {"a": {"__numpy__": "a b!", "dtype": "|u1", "shape": [1]}}},
        400,
        "observation: a: array: __numpy__ is not base64",
    ),
    "not quite base64": (
        {"observation": {"a": {"__numpy__": "A!A==", "dtype": "|u1", "shape": [1]}}},
        400,
        "observation: a: array: __numpy__ is not base64",
    ),
    "too many escaped": (
        b'{"encoded": "[' + b"1\\u002c" * 1_000_001 + b'1]"}',
        422,
        "JSON with more than 1000000 values",
    ),
    "a key twice": (
        b'{"observation": {"a": 1, "b": 2, "a": 3}}',
        400,
        "observation: a map has the key 'a' twice",
    ),
    "numbers for text": (
        {"observation": {"a": {"__numpy__": [1], "dtype": "|u1", "shape": [1]}}},
        400,
        "observation: a: array: __numpy__ must be base64 text, got list",
    ),
}


def test_what_is_wrong_with_a_body_is_told_and_the_connection_goes_on() -> None:
    with (
        serving_http(DoublingPolicy()) as (_, port),
        socket.create_connection(("127.0.0.1", port), 10) as tcp,
    ):
        for name, (content, status, text) in TEXTS.items():
            tcp.sendall(request_bytes(port, content))
            reply = read_reply(tcp)
            assert (reply.status, list(reply.content)) == (status, ["detail"]), name
            assert reply.content["detail"].startswith(text), (name, reply.content)
            tcp.sendall(request_bytes(port, number(4)))
            assert doubled(read_reply(tcp)) == 8


@pytest.mark.parametrize(
    ("options", "status", "text"),
    [
        ({"path": "/acts"}, 404, "Not Found: did you mean /act?"),
        ({"path": "/"}, 404, "Not Found: "),
        ({"path": "/kill"}, 404, "Not Found: "),
        ({"path": "/act", "method": "GET"}, 405, "Method Not Allowed: /act takes POST"),
        ({"path": "/health"}, 405, "Method Not Allowed: /health takes GET"),
        ({"Content_Type": ""}, 415, "Content-Type: expected application/json, got none"),
        ({"Content_Type": "text/plain"}, 415, "Content-Type: expected application/json, got text/plain"),
        ({"Content_Encoding": "gzip"}, 415, "Content-Encoding: gzip is not read; send the text as it is"),
        ({"Transfer_Encoding": "chunked"}, 400, "both Content-Length and Transfer-Encoding: where does"),
        ({"path": "/act?sed=7"}, 400, "options: unknown option 'sed'; did you mean seed?"),
        ({"path": "/act?seed=x"}, 400, "options: seed: expected one whole number, got 'x'"),
        ({"path": "/act?seed=1&seed=2"}, 400, "options: seed: expected one whole number, got '2'"),
        ({"path": "/act?" + "&a=1" * 11}, 400, "options: more than 10"),
        ({"path": f"/act?seed={2**63}"}, 400, "options: seed: expected an integer from 0 to 2^63 - 1"),
    ],
    ids=range(14),
)
def test_what_is_wrong_with_a_head_is_told(options: dict[str, str], status: int, text: str) -> None:
    with serving_http(DoublingPolicy()) as (_, port):
        reply = ask(port, ACT, **options)
        assert reply.status == status
        assert reply.content["detail"].startswith(text), reply.content
        assert reply.headers.get("allow") == (
            {"/act": "POST", "/health": "GET"}[options["path"]] if status == 405 else None
        )
        assert doubled(ask(port, ACT, Content_Type="application/json; charset=utf-8")) == 2


def test_a_seed_reaches_the_policy_and_a_failure_of_it_is_a_500(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(RecordedPolicy):
        def get_action(self, observations: dict[str, Any], **options: Any) -> dict[str, Any]:
            raise RuntimeError(f"no memory for {options}")

    with serving_http(Broken()) as (_, port):
        reply = ask(port, ACT, path="/act?seed=7")
    assert reply.status == 500
    assert reply.content == {"detail": "Internal server error: RuntimeError: no memory for {'seeds': 7}"}
    assert any("get_action failed" in record.message and record.exc_info for record in caplog.records)
