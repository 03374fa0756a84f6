"""vla-eval's wire. Oracle: sessions recorded between its own client and server, and what that client does."""

from __future__ import annotations

import contextlib
import io
import struct
import time
from collections import Counter
from typing import Any

import msgpack
import numpy as np
import pytest
from PIL import Image
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from gr00t.serving.endpoints import RequestError
from gr00t.serving.harnesses.libero import noise_seed
from gr00t.serving.harnesses.vla_eval import VlaEvalServer
from tests.serving.websocket.peers import (
    ScriptedPolicy,
    array,
    asked,
    chunk,
    client,
    message,
    serving,
    session,
)

LIBERO = "vla_eval.benchmarks.libero.benchmark:LIBEROBenchmark"
PRO = "vla_eval.benchmarks.libero_pro.benchmark:LIBEROProBenchmark"
TASK = {"name": "pick the milk", "suite": "libero_object", "task_id": 3, "episode_idx": 7}


def png(number: int = 0, size: int = 16) -> dict[str, Any]:
    pixels = np.random.default_rng(number).integers(0, 256, (size, size, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return {"__image__": True, "format": "png", "data": buffer.getvalue(), "shape": [size, size, 3]}


def state(*turn: float) -> dict[str, Any]:
    values = np.array([0.1, 0.2, 0.3, *turn, 0.04, -0.04])
    return {"__ndarray__": True, "data": values.tobytes(), "dtype": "<f8", "shape": [8]}


def observation(turn: tuple[float, float, float] = (3.1, 0.1, 0.2), **more: Any) -> dict[str, Any]:
    return {
        "images": {"agentview": png(1), "wrist": png(2)},
        "task_description": "pick the milk",
        "states": state(*turn),
        **more,
    }


def replayed(name: str, chunks: list[np.ndarray]) -> tuple[list[tuple[bytes, bytes]], ScriptedPolicy]:
    """Send what a recorded client sent; return our replies beside the recorded ones."""
    policy = ScriptedPolicy(chunks)
    pairs: list[tuple[bytes, bytes]] = []
    owed: Counter[int] = Counter()
    clients: dict[int, ClientConnection] = {}
    with serving(VlaEvalServer, policy) as (_, port), contextlib.ExitStack() as stack:
        for passed in session(f"vla_eval_{name}"):
            if passed.connection not in clients:
                clients[passed.connection] = stack.enter_context(client(port))
            ws = clients[passed.connection]
            if passed.who == "client":
                ws.send(passed.data)
                owed[passed.connection] += msgpack.unpackb(passed.data)["type"] in ("hello", "observation")
            else:
                pairs.append((ws.recv(20), passed.data))
                owed[passed.connection] -= 1
        for number, ws in clients.items():
            for _ in range(owed[number]):  # the recording ended before these were answered
                ws.recv(20)
            with pytest.raises(TimeoutError):  # nobody is sent more than it is owed
                ws.recv(0.1)
    return pairs, policy


def recorded_actions(name: str) -> list[np.ndarray]:
    told = [msgpack.unpackb(passed.data) for passed in session(f"vla_eval_{name}") if passed.who == "server"]
    return [array(entry["payload"]["actions"]) for entry in told if entry["type"] == "action"]


@pytest.mark.parametrize(("name", "steps"), [("episodes", 4), ("no_recording", 4)])
def test_recorded_episodes_byte_for_byte(name: str, steps: int) -> None:
    actions = recorded_actions(name)
    chunks = [
        np.concatenate([actions[begin : begin + steps], chunk(0)]) for begin in range(0, len(actions), steps)
    ]
    pairs, policy = replayed(name, chunks)
    assert len(pairs) == 1 + len(actions)
    for ours, theirs in pairs[1:]:
        # All but the time of day, the last eight bytes.
        assert ours[:-8] == theirs[:-8]
        assert abs(struct.unpack(">d", ours[-8:])[0] - time.time()) < 60
    assert len(policy.seen) == len(chunks)  # the chunk is kept, and emptied at the next episode
    hello, told = (msgpack.unpackb(reply) for reply in pairs[0])
    assert list(hello) == list(told)
    assert list(hello["payload"])[:7] == list(told["payload"])
    for key in ("harness_version", "protocol_version", "capabilities", "action_spec", "observation_spec"):
        assert hello["payload"][key] == told["payload"][key]
    assert hello["payload"]["quantization"] == {"enabled": True, "layers_quantized": 116}


def test_the_real_benchmark_and_its_pictures() -> None:
    pairs, policy = replayed("libero_real", [np.stack([*recorded_actions("libero_real"), *chunk(0)])])
    assert [ours[:-8] for ours, _ in pairs[1:]] == [theirs[:-8] for _, theirs in pairs[1:]]
    seen = policy.seen[0]
    assert seen["video.image"].shape == seen["video.wrist_image"].shape == (1, 256, 256, 3)
    sent = msgpack.unpackb(session("vla_eval_libero_real")[3].data)["payload"]
    assert seen["video.image"][0].tobytes() == _pixels(sent["images"]["agentview"])
    assert seen["video.wrist_image"][0].tobytes() == _pixels(sent["images"]["wrist"])
    told = np.concatenate(
        [seen[f"state.{key}"][0] for key in ("x", "y", "z", "roll", "pitch", "yaw", "gripper")]
    )
    assert told.tolist() == array(sent["states"]).tolist()
    assert policy.seeds == [noise_seed(0, "libero_object", 0, 0, 0)]


def _pixels(image: dict[str, Any]) -> bytes:
    return Image.open(io.BytesIO(image["data"])).tobytes()


def test_a_connection_lost_in_an_episode_begins_anew() -> None:
    _, policy = replayed("lost_reconnect", [])
    assert len(policy.seen) == 2


def test_eight_of_sixteen_actions_are_executed_and_only_then_is_anything_decoded() -> None:
    policy = ScriptedPolicy()
    with serving(VlaEvalServer, policy, seed=5) as (_, port), client(port) as ws:
        asked(ws, message("hello", {"benchmark": LIBERO}))
        ws.send(message("episode_start", {"task": TASK}))
        for step in range(20):
            # While actions are left, no observation is looked at.
            content = observation() if step % 8 == 0 else {"images": "none"}
            reply = asked(ws, message("observation", content, seq=10 + step))
            assert (reply["type"], reply["seq"]) == ("action", 10 + step)
            actions = array(reply["payload"]["actions"])
            assert actions.tobytes() == chunk(step // 8)[step % 8].tobytes()
    assert policy.seeds == [noise_seed(5, "libero_object", 3, 7, query) for query in range(3)]


def test_every_connection_has_a_chunk_of_its_own() -> None:
    with (
        serving(VlaEvalServer, ScriptedPolicy(), replan_steps=4) as (_, port),
        contextlib.ExitStack() as stack,
    ):
        robots = [stack.enter_context(client(port)) for _ in range(3)]
        got = [
            array(asked(ws, message("observation", observation(), seq=step))["payload"]["actions"])[:2]
            for step in range(8)
            for ws in robots
        ]
    # Chunks are computed in the order in which they are needed: 0, 1, 2 at first, 3, 4, 5 four steps later.
    wanted = [(3 * (step // 4) + robot, step % 4 / 16) for step in range(8) for robot in range(3)]
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("told_the_end", [True, False])  # after an error or a timeout no end is told
def test_an_episode_begins_with_an_empty_chunk(told_the_end: bool) -> None:
    with serving(VlaEvalServer, ScriptedPolicy(), replan_steps=16) as (_, port), client(port) as ws:
        first = []
        for _ in range(2):
            ws.send(message("episode_start", {"task": TASK}))
            for _ in range(3):
                first.append(array(asked(ws, message("observation", observation()))["payload"]["actions"]))
            if told_the_end:
                ws.send(message("episode_end", {}))
    assert [tuple(action[:2] * [1, 16]) for action in first] == [
        (0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("benchmark", "turn", "seen"),
    [
        (LIBERO, (-3.0, 0.1, 0.2), (-3.0, 0.1, 0.2)),
        (PRO, (3.0, 0.1, 0.2), (3.0, 0.1, 0.2)),
        # |v| = 3: 3 - 2 pi = -3.28 about the axis -v / 3
        (PRO, (-3.0, 0.0, 0.0), (2 * np.pi - 3, 0, 0)),
        (PRO, (-1.0, 2.0, -2.0), tuple((2 * np.pi - 3) * np.array([1, -2, 2]) / 3)),
        ("", (-3.0, 0.0, 0.0), (2 * np.pi - 3, 0, 0)),
    ],
)
def test_folded_angles_are_unfolded_where_the_benchmark_ignores_our_wish(
    benchmark: str, turn: tuple[float, float, float], seen: tuple[float, float, float]
) -> None:
    policy = ScriptedPolicy()
    with serving(VlaEvalServer, policy) as (_, port), client(port) as ws:
        asked(ws, message("hello", {"benchmark": benchmark}))
        asked(ws, message("observation", observation(turn)))
    got = [policy.seen[0][f"state.{key}"].item() for key in ("roll", "pitch", "yaw")]
    np.testing.assert_allclose(got, seen, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (observation(states=None), "states: expected an array of numbers, got NoneType"),
        ({"images": {}}, "no 'states' in the observation"),
        (observation(images={"agentview": png(1)}), "images: no 'wrist' in the observation"),
        (observation(task_description=3), "task_description: expected text, got int"),
        (
            observation(images={"agentview": png(1), "wrist": {**png(2), "shape": [99, 16, 3]}}),
            "announced as",
        ),
        (observation(images={"agentview": png(1), "wrist": {**png(2), "data": b"GIF89a"}}), "cannot be read"),
        (observation(states={**state(1, 2, 3), "dtype": "|O8"}), "none of the plain types"),
        (observation(states={**state(1, 2, 3), "shape": [9]}), "takes 72 bytes, got 64"),
        ([], "payload: expected a map, got list"),
    ],
)
def test_an_observation_that_cannot_be_taken_gets_one_error_with_its_number(content: Any, error: str) -> None:
    with serving(VlaEvalServer) as (_, port), client(port) as ws:
        reply = asked(ws, message("observation", content, seq=77))
        assert (reply["type"], reply["seq"]) == ("error", 77)
        assert error in reply["payload"]["error"]
        assert asked(ws, message("observation", observation(), seq=78))["type"] == "action"


def test_a_failed_start_is_told_to_the_next_observation_and_never_twice() -> None:
    with serving(VlaEvalServer) as (_, port), client(port) as ws:
        ws.send(message("episode_start", {"task": "none"}))
        reply = asked(ws, message("observation", observation(), seq=2))
        assert (reply["type"], reply["seq"]) == ("error", 2)
        assert reply["payload"]["error"].startswith("episode_start: payload: expected a map with a map under")
        ws.send(message("episode_start", {"task": TASK}))
        assert asked(ws, message("observation", observation(), seq=4))["type"] == "action"
        with pytest.raises(TimeoutError):
            ws.recv(0.1)


@pytest.mark.parametrize(
    "sent",
    [
        b"\xc1", b"", b"\x93NUMPY", msgpack.packb([1]), "hello", message("hullo", {}), message("action", {}),
        msgpack.packb({"type": "hello", "payload": {}, "timestamp": 1.0}),
        message("observation", {}, seq="x"),  # type: ignore[arg-type]
        message("observation", {}, seq=True),
    ],
)  # fmt: skip
def test_what_is_no_message_ends_the_connection_with_a_reason(sent: bytes | str) -> None:
    with serving(VlaEvalServer) as (_, port), client(port) as ws:
        ws.send(sent)
        with pytest.raises(ConnectionClosed) as caught:
            ws.recv(10)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1007
        assert caught.value.rcvd.reason


def test_a_chunk_shorter_than_what_is_to_be_executed() -> None:
    policy = ScriptedPolicy([chunk(0, length=4)])
    with serving(VlaEvalServer, policy) as (_, port), client(port) as ws:
        reply = asked(ws, message("observation", observation()))
        assert reply["payload"]["error"].startswith("--replan-steps 8: the policy answers with chunks of 4 ")


@pytest.mark.parametrize("steps", [0, 17])
def test_more_actions_than_a_chunk_has_are_refused_at_the_start(steps: int) -> None:
    with pytest.raises(RequestError, match=f"replan_steps: expected 1 to 16, .* got {steps}"):
        VlaEvalServer(ScriptedPolicy(), port=0, replan_steps=steps)


@pytest.mark.parametrize(
    ("task", "follows"),
    [
        ({"suite": "s", "task_id": None, "name": "pick"}, ("s", "pick", 0)),
        ({"suite": None, "task_id": 3, "episode_idx": 2}, (LIBERO, 3, 2)),
        ({"suite": "s", "task_id": 3, "episode_idx": None}, ("s", 3, 0)),
    ],
)
def test_what_a_task_says_to_be_none_is_left_out(task: dict[str, Any], follows: tuple[Any, ...]) -> None:
    policy = ScriptedPolicy()
    with serving(VlaEvalServer, policy) as (_, port), client(port) as ws:
        asked(ws, message("hello", {"benchmark": LIBERO}))
        ws.send(message("episode_start", {"task": task}))
        assert asked(ws, message("observation", observation()))["type"] == "action"
    assert policy.seeds == [noise_seed(0, *follows, 0)]


def test_observations_sent_without_waiting_are_answered_in_order() -> None:
    policy = ScriptedPolicy()
    with serving(VlaEvalServer, policy, replan_steps=2) as (_, port), client(port) as ws:
        policy.gate.clear()
        for number in range(6):
            ws.send(message("observation", observation(), seq=number))
        assert policy.begun.acquire(timeout=10)
        policy.gate.set()
        replies = [msgpack.unpackb(ws.recv(10)) for _ in range(6)]
    assert [reply["seq"] for reply in replies] == list(range(6))
    assert len(policy.seen) == 3
