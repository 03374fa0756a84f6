"""What one request may ask for. Oracle: the text of the refusal, its length, and what was not done for it."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import Any

import numpy as np
import pytest

from gr00t.serving import batching
from gr00t.serving.robot import RobotInferenceServer
from gr00t.serving.sockets.rate_limited_log import RateLimitedLog
from gr00t.serving.wires import n1_5 as wire
from tests.serving.doubling_policy import DoublingPolicy, request
from tests.serving.recorded import TOKEN, recorded
from tests.serving.test_batching import Bench, Doubling


def test_a_token_is_compared_before_anything_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    server = RobotInferenceServer(DoublingPolicy(), port=0, api_token=TOKEN)
    decoded: list[Any] = []
    monkeypatch.setattr(wire, "decode", lambda part: decoded.append(bytes(part)) or {})
    request_body = {
        "endpoint": "get_action",
        "data": {"a": [1] * 100},
        "options": {"x": 1},
        "api_token": "no",
    }
    assert server.handle(wire.pack(request_body)) == recorded("resp_unauthorized")
    assert decoded == []
    server.close()


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"options": {"x" * 60_000: 1}}, "options: 60005 bytes; at most 10000 are accepted"),
        ({"options": {"x" * 9_000: 1}}, "options: unknown option 'xxx"),
        ({"endpoint": "y" * 60_000}, "Unknown endpoint: yyy"),
        ({"data": {"k" * 60_000: 1}}, "KeyError: 'state.x'"),
        (
            {"data": {"state.x": np.zeros((5000, 1, 1))}},
            "state.x: a batch of 5000 samples; this server computes",
        ),
        ({"data": {"video.y": np.zeros((17, 1, 2, 2, 3), np.uint8)}}, "video.y: a batch of 17 samples"),
        ({"data": {"video.y": [[[[[0]]]]] * 17}}, "video.y: a batch of 17 samples"),
        ({"data": {"state.x": [[[0.0]]] * 17}}, "state.x: a batch of 17 samples"),
        ({"data": {"observation.state": np.zeros((17, 6))}}, "observation.state: a batch of 17 samples"),
        (
            {"data": {"observation.images.top": np.zeros((17, 2, 2, 3), np.uint8)}},
            "observation.images.top: a batch of 17 samples",
        ),
    ],
)
def test_what_is_too_much_is_told_in_few_words(message: dict[str, Any], text: str) -> None:
    server = RobotInferenceServer(DoublingPolicy(), port=0)
    reply = server.handle(wire.pack(message))
    assert text in wire.unpack(reply)["error"]
    assert len(reply) < 2_200
    server.close()


def test_an_error_is_cut_however_long_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(observations: Any, **options: Any) -> Any:
        raise ValueError("z" * 8_000_000)

    policy = DoublingPolicy()
    monkeypatch.setattr(policy, "prepare", fail)
    with contextlib.closing(RobotInferenceServer(policy, port=0)) as server:
        error = wire.unpack(server.handle(request(1)))["error"]
    assert error == "z" * 2000 + "... (8000000 characters)"


def test_a_flood_does_not_fill_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    limited = RateLimitedLog(logging.getLogger("gr00t.test"))
    for number in range(1000):
        limited.log(logging.WARNING, "peer %d", number)
    assert [record.message for record in caplog.records] == [
        *(f"peer {number}" for number in range(10)),
        "more like these within 60 seconds are counted only",
    ]
    now[0] += 61
    limited.log(logging.WARNING, "one more")
    assert [record.message for record in caplog.records[-2:]] == ["... and 990 more like these", "one more"]


def test_what_a_peer_sent_cannot_look_like_another_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with contextlib.closing(RobotInferenceServer(DoublingPolicy(), port=0)) as server:
        reply = server.handle(wire.pack({"endpoint": "x\n[GR00T-DUQUANT] all well\x1b[2Jé"}))
    assert wire.unpack(reply)["error"] == "Unknown endpoint: x\n[GR00T-DUQUANT] all well\x1b[2Jé"
    assert caplog.messages == [
        r"request refused: Unknown endpoint: x\n[GR00T-DUQUANT] all well\x1b[2Jé",
    ]


def test_only_so_much_of_other_kinds_is_prepared_ahead() -> None:
    """A prepared sample takes megabytes."""

    class Counting(Doubling):
        prepared = 0

        def prepare(self, data: Any, **options: Any) -> Any:
            self.prepared += 1
            return super().prepare(data, **options)

    bench = Bench(endpoint := Counting(limit=4))
    endpoint.gate.clear()
    bench.submit(0)
    for value in range(1, 101):
        bench.submit(value, kind=str(value))
    bench.worker.start()
    assert endpoint.begun.acquire(timeout=10)
    assert endpoint.prepared == 4 * batching._PREPARED_AHEAD
    endpoint.gate.set()
    bench.finish(101)
