"""openpi's wire. Oracle: sessions recorded between its own client and server, and what that client does."""

from __future__ import annotations

import time
from typing import Any

import msgpack
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from gr00t.serving.harnesses.openpi import OpenPiServer
from tests.serving.websocket.peers import ScriptedPolicy, array, asked, chunk, client, serving, session


def packed(value: np.ndarray) -> dict[bytes, Any]:
    fields = {b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": list(value.shape)}
    return {b"__ndarray__": True, **fields}


def observation(**more: Any) -> dict[str, Any]:
    image = np.arange(12 * 8 * 3, dtype=np.uint8).reshape(12, 8, 3)
    told = {
        "observation/image": packed(image),
        "observation/wrist_image": packed(image[::-1].copy()),
        "observation/state": packed(np.array([0.1, 0.2, 0.3, -3.0, 0.1, 0.2, 0.04, -0.04])),
        "prompt": "pick the milk",
    }
    return {**told, **{key.replace("__", "/"): value for key, value in more.items()}}


def ask(ws: Any, **more: Any) -> Any:
    return asked(ws, msgpack.packb(observation(**more)))


@pytest.mark.parametrize("name", ["libero", "broker", "api_key", "libero_real", "error_then_new_client"])
def test_recorded_sessions(name: str) -> None:
    passed = session(f"openpi_{name}")
    replies = [entry for entry in passed if entry.who == "server" and entry.connection == 1][1:]
    chunks = [array(msgpack.unpackb(entry.data)["actions"]) for entry in replies if not entry.is_text]
    chunks = [np.concatenate([actions[:, :6], np.sign(actions[:, 6:])], axis=1) for actions in chunks]
    policy = ScriptedPolicy(chunks)
    headers = {"Authorization": "Api-Key secret"} if name == "api_key" else {}
    with serving(OpenPiServer, policy) as (_, port), client(port, additional_headers=headers) as ws:
        metadata = msgpack.unpackb(ws.recv(5))
        assert metadata["policy"] == "gr00t-n1.5"
        assert metadata["quantization"] == {"enabled": True, "layers_quantized": 116}
        sent = [entry.data for entry in passed if entry.who == "client" and entry.connection == 1]
        for number, actions in enumerate(chunks):
            reply = asked(ws, sent[number])
            # The array's map with its keys of bytes, as openpi's packer writes it.
            assert msgpack.packb(reply["actions"]) == msgpack.packb(packed(actions))
            assert list(reply) == ["actions", "server_timing"]
            assert list(reply["server_timing"]) == ["infer_ms", "prev_total_ms"][: 1 + (number > 0)]
            image = msgpack.unpackb(sent[number])["observation/image"]
            assert policy.seen[number]["video.image"][0].tobytes() == image[b"data"]


def test_the_chunk_goes_to_the_client_and_nothing_is_folded() -> None:
    policy = ScriptedPolicy()
    with serving(OpenPiServer, policy) as (_, port), client(port) as ws:
        ws.recv(5)
        assert array(ask(ws)["actions"]).tobytes() == chunk(0).tobytes()
        assert array(ask(ws, seed=4)["actions"]).tobytes() == chunk(1).tobytes()
        # As openpi's packer writes a number of numpy's.
        ask(ws, seed={b"__npgeneric__": True, b"data": 5, b"dtype": "<i8"})
    assert policy.seen[0]["state.roll"].item() == -3.0
    assert policy.seeds == [None, 4, 5]


def test_images_as_numbers_with_channels_first() -> None:
    policy = ScriptedPolicy()
    image = np.linspace(0, 1, 3 * 5 * 6, dtype=np.float32).reshape(3, 5, 6)
    with serving(OpenPiServer, policy) as (_, port), client(port) as ws:
        ws.recv(5)
        ask(ws, observation__image=packed(image))
    wanted = (255 * image).astype(np.uint8).transpose(1, 2, 0)
    np.testing.assert_array_equal(policy.seen[0]["video.image"][0], wanted)


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (b"\xc1", "not a msgpack message"),
        ("text", "expected a msgpack map in a binary message, got a text"),
        (msgpack.packb([1]), "expected a map, got list"),
        (msgpack.packb({"prompt": "x"}), "no 'observation/image' in the observation"),
        (msgpack.packb(observation(observation__state=packed(np.zeros(7)))), "expected 8 numbers, got 7"),
        (msgpack.packb(observation(observation__state=packed(np.array("a")))), "an array of numbers, got"),
        (msgpack.packb(observation(observation__image=packed(np.zeros((9, 4, 2), "u1")))), "(H, W, 3)"),
        (msgpack.packb(observation(seed="a")), "seed: expected an integer"),
        (msgpack.packb(observation(observation__state=packed(np.zeros((1, 8))))), "numbers in one dimension"),
        (msgpack.packb(observation(seed=[0] * 70_000)), "seed: 70005 bytes; at most 65536 are accepted"),
        (msgpack.packb(observation(prompt=[1])), "prompt: expected text, got list"),
    ],
)  # fmt: skip
def test_an_error_is_a_text_and_the_end_and_a_new_client_works(sent: bytes | str, error: str) -> None:
    with serving(OpenPiServer) as (_, port):
        with client(port) as ws:
            ws.recv(5)
            ws.send(sent)
            told = ws.recv(5)
            assert isinstance(told, str)
            assert error in told
            with pytest.raises(ConnectionClosed) as caught:
                ws.recv(5)
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1011
        with client(port) as ws:
            ws.recv(5)
            assert array(ask(ws)["actions"]).shape == (16, 7)


def test_pings_are_answered_while_the_policy_computes() -> None:
    policy = ScriptedPolicy()
    with serving(OpenPiServer, policy) as (_, port), client(port) as ws:
        ws.recv(5)
        policy.gate.clear()
        ws.send(msgpack.packb(observation()))
        assert policy.begun.acquire(timeout=10)
        slowest = 0.0
        for _ in range(20):
            started = time.monotonic()
            assert ws.ping().wait(5)
            slowest = max(slowest, time.monotonic() - started)
        policy.gate.set()
        assert array(msgpack.unpackb(ws.recv(10))["actions"]).shape == (16, 7)
    assert slowest < 1.0
