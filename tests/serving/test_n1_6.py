"""The wire of Isaac-GR00T N1.6 and N1.7. Oracle: its client's source, written down here as messages."""

from __future__ import annotations

import io
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq

from gr00t.serving.n1_6 import N16InferenceServer
from tests.serving.doubling_policy import DoublingPolicy
from tests.serving.recorded import STATE
from tests.serving.socket_helpers import raw
from tests.serving.websocket.peers import ScriptedPolicy, chunk, running

LANGUAGE = "annotation.human.action.task_description"
FORMS = ["npy", "nd"]


def written(value: Any, form: str) -> Any:
    """Write arrays as N1.6 (npy) or, with msgpack-numpy, the later N1.7 (nd) does."""
    if not isinstance(value, np.ndarray):
        raise TypeError(type(value))
    if form == "npy":
        buffer = io.BytesIO()
        np.save(buffer, value, allow_pickle=False)
        return {"__ndarray_class__": True, "as_npy": buffer.getvalue()}
    return {
        b"nd": True,
        b"type": value.dtype.str,
        b"kind": b"",
        b"shape": value.shape,
        b"data": value.tobytes(),
    }


def read(fields: dict[Any, Any]) -> Any:
    """Read either form; which it was is kept."""
    if "__ndarray_class__" in fields:
        return "npy", np.load(io.BytesIO(fields["as_npy"]), allow_pickle=False)
    if b"nd" in fields:
        assert list(fields) == [b"nd", b"type", b"kind", b"shape", b"data"]
        return "nd", np.frombuffer(fields[b"data"], fields[b"type"]).reshape(fields[b"shape"])
    return fields


def asked(port: int, request: dict[str, Any], form: str = "npy") -> Any:
    with raw(zmq.REQ, port) as sock:
        sock.send(msgpack.packb(request, default=lambda value: written(value, form)))
        return msgpack.unpackb(sock.recv(), object_hook=read)


def parts(batch: int = 1) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    video = {
        name: np.arange(batch * 8 * 8 * 3, dtype=np.uint8).reshape(batch, 1, 8, 8, 3)
        for name in ("image", "wrist_image")
    }
    state = {key: np.full((batch, 1, 2 if key == "gripper" else 1), 0.25, np.float32) for key in STATE}
    return video, state, [f"pick {number}" for number in range(batch)]


def nested(batch: int = 1) -> dict[str, Any]:
    video, state, texts = parts(batch)
    return {"video": video, "state": state, "language": {LANGUAGE: [[text] for text in texts]}}


def flat(batch: int = 1) -> dict[str, Any]:
    video, state, texts = parts(batch)
    return {
        **{f"video.{name}": value for name, value in video.items()},
        **{f"state.{name}": value for name, value in state.items()},
        LANGUAGE: texts,
    }


def get_action(observation: Any, options: Any = None) -> dict[str, Any]:
    return {"endpoint": "get_action", "data": {"observation": observation, "options": options}}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("observe", "prefix"), [(nested, ""), (flat, "action.")])
def test_both_observations_in_both_forms_are_answered_in_kind(form: str, observe: Any, prefix: str) -> None:
    policy = ScriptedPolicy()
    with running(N16InferenceServer(policy, port=0)) as (port,):
        actions, info = asked(port, get_action(observe(2), {"seed": 9}), form)
    assert info == {}
    assert list(actions) == [prefix + key for key in STATE]
    assert {name for name, _ in actions.values()} == {form}
    np.testing.assert_array_equal(actions[f"{prefix}y"][1][:, 0], chunk(0)[:, 1])
    seen = policy.seen[0]
    assert sorted(seen) == sorted(flat())
    assert seen["video.image"].shape == (2, 1, 8, 8, 3)
    # As N1.5's clients send them: the same numbers give the same action.
    assert (seen["state.x"].dtype, seen["state.x"].shape) == (np.float64, (2, 1, 1))
    assert seen[LANGUAGE].tolist() == [["pick 0"], ["pick 1"]]
    assert policy.seeds == [9]


def test_reset_ping_and_modalities() -> None:
    with running(N16InferenceServer(ScriptedPolicy(), port=0)) as (port,):
        assert asked(port, {"endpoint": "reset", "data": {"options": None}}) == {}
        assert asked(port, {"endpoint": "reset", "data": None}) == {}
        assert asked(port, {"endpoint": "ping"}) == {"status": "ok", "message": "Server is running"}
        modalities = asked(port, {"endpoint": "get_modality_config"})
    # N1.6's client looks for the one mark, N1.7's for the other; both build what stands beside it.
    assert list(modalities["state"]) == ["__ModalityConfig_class__", "__ModalityConfig__", "as_json"]
    assert modalities["state"]["as_json"] == {"delta_indices": [0], "modality_keys": STATE}
    assert modalities["language"]["as_json"]["modality_keys"] == [LANGUAGE]


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (get_action(nested(), {"sede": 1}), "options: unknown option 'sede'; did you mean seed?"),
        ({"endpoint": "get_action", "data": {"video.image": 1}}, "data: no 'observation', but 'video.image'"),
        ({"endpoint": "get_action"}, "data: expected a map with observation and options, got nothing"),
        ({"endpoint": "get_action", "data": None}, "data: expected a map with observation and options, got"),
        (
            get_action({"language": {LANGUAGE: [["x" * 60_000], *([[""]] * 30)]}}),
            f"{LANGUAGE}: 31 texts of up to 60000 characters",
        ),
        (get_action([1]), "data: observation: expected a map, got list"),
        (get_action({"video": {}, "stat": {}}), "data: observation: stat: expected maps under video, state"),
        (get_action({"video": {"image": {"__ndarray_class__": True}}}), "image: array: as_npy must be"),
        (get_action({"video": {"x": {b"nd": True, b"kind": b"O"}}}), "objects and records are not read"),
        (
            get_action({"video": {"x": {b"nd": True, b"type": [["a", "<f4"]]}}}),
            "dtype must be text, got list",
        ),
    ],
)
def test_what_cannot_be_taken_gets_an_error(request_: dict[str, Any], error: str) -> None:
    with running(N16InferenceServer(ScriptedPolicy(), port=0)) as (port,):
        reply = asked(port, request_)
        assert error in reply["error"]
        assert len(asked(port, get_action(nested()))) == 2


def test_clients_of_several_wires_share_a_forward() -> None:
    from gr00t.serving.robot import RobotInferenceServer

    policy = DoublingPolicy()
    old = RobotInferenceServer(policy, port=0)
    new = N16InferenceServer(policy, port=0, beside=old)
    value = np.array([[[4.0]]], np.float32)
    with running(old, new) as (first, second), raw(zmq.REQ, first) as one, raw(zmq.REQ, second) as two:
        policy.gate.clear()
        one.send(msgpack.packb({"data": {"state.x": [[1.0]]}}))
        assert policy.begun.acquire(timeout=10)
        with raw(zmq.REQ, first) as other:
            other.send(msgpack.packb({"data": {"state.x": [[2.0]]}}))
            two.send(msgpack.packb(get_action({"state.x": value}), default=lambda v: written(v, "npy")))
            while old.worker.waiting < 2:
                pass
            policy.gate.set()
            assert msgpack.unpackb(two.recv(), object_hook=read)[0]["action.x"][1].item() == 8.0
            assert msgpack.unpackb(other.recv(), object_hook=read)["action.x"][1].item() == 4.0
        one.recv()
    assert sorted(policy.batches[1]) == [2.0, 4.0]
    assert old.worker is new.worker
    assert new.info()["batches"] == {"1": 1, "2": 1}


def test_when_one_server_is_told_to_end_so_do_those_beside_it() -> None:
    from gr00t.serving.robot import RobotInferenceServer

    old = RobotInferenceServer(DoublingPolicy(), port=0)
    new = N16InferenceServer(DoublingPolicy(), port=0, beside=old)
    with running(old, new) as (_, second):
        assert asked(second, {"endpoint": "kill"}) is None
        while old.running or new.running:
            pass
    assert old.worker.ended
