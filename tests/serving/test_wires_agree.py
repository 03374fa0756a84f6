"""One policy asked over every wire at once. Oracle: its own answer, bit for bit."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import torch
from PIL import Image

from examples.Libero.custom_data_config import LiberoDataConfig
from gr00t.model.policy import Gr00tPolicy
from gr00t.serving.harnesses.libero import noise_seed, robot_actions
from gr00t.serving.harnesses.openpi import OpenPiServer
from gr00t.serving.harnesses.vla_eval import VlaEvalServer
from gr00t.serving.http.server import HTTPInferenceServer
from gr00t.serving.n1_6 import N16InferenceServer
from gr00t.serving.robot import RobotInferenceServer
from tests.serving import test_n1_6 as n1_6
from tests.serving.harnesses import test_openpi as openpi
from tests.serving.harnesses import test_vla_eval as vla_eval
from tests.serving.http.http_sockets import as_json_numpy, ask
from tests.serving.recorded import STATE
from tests.serving.socket_helpers import client_at
from tests.serving.websocket.peers import array, asked, client, message, running

LANGUAGE = "annotation.human.action.task_description"
TEXT = "pick up the milk and place it in the basket"
SERVER_SEED = 3
SEED = noise_seed(SERVER_SEED, "libero_object", 3, 7, 0)
QUANTIZED = {"GR00T_DUQUANT_WBITS_DEFAULT": "4", "GR00T_DUQUANT_CALIB_STEPS": "0"}


@pytest.fixture(scope="module", params=[{}, QUANTIZED], ids=["float", "w4a8"])
def policy(request: pytest.FixtureRequest, checkpoint: Path) -> Gr00tPolicy:
    config = LiberoDataConfig()
    return Gr00tPolicy(
        checkpoint,
        "new_embodiment",
        config.modality_config(),
        config.transform(),
        device="cpu",
        torch_dtype=torch.bfloat16,
        environ=request.param,
    )


def seen() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two frames, and a state that float32 holds exactly: N1.6's clients send no other."""
    random = np.random.default_rng(11)
    image, wrist = random.integers(0, 256, (2, 256, 256, 3), dtype=np.uint8)
    return image, wrist, random.uniform(0.01, 0.1, 8).astype(np.float32).astype(np.float64)


def columns(state: np.ndarray) -> dict[str, np.ndarray]:
    return {key: state[6:] if key == "gripper" else state[i : i + 1] for i, key in enumerate(STATE)}


def png(pixels: np.ndarray) -> dict[str, Any]:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return {"__image__": True, "format": "png", "data": buffer.getvalue(), "shape": list(pixels.shape)}


def test_the_same_observation_gets_the_same_action_over_every_wire(policy: Gr00tPolicy) -> None:
    image, wrist, state = seen()
    flat = {
        "video.image": image[None],
        "video.wrist_image": wrist[None],
        **{f"state.{key}": value[None] for key, value in columns(state).items()},
        LANGUAGE: [TEXT],
    }
    wanted = policy.get_action(flat, seeds=SEED)
    other = policy.get_action(flat, seeds=SEED + 1)
    assert any((wanted[key] != other[key]).any() for key in wanted)  # the seed matters
    executed = robot_actions(wanted).astype(np.float32)

    old = RobotInferenceServer(policy, port=0)
    servers = [
        old,
        HTTPInferenceServer(policy, port=0, beside=old),
        N16InferenceServer(policy, port=0, beside=old),
        VlaEvalServer(policy, port=0, beside=old, seed=SERVER_SEED),
        OpenPiServer(policy, port=0, beside=old),
    ]
    with running(*servers) as ports:
        with client_at(ports[0], timeout_ms=60_000) as ours:
            same(ours.get_action(flat, seed=SEED), wanted)
        reply = ask(ports[1], {"observation": as_json_numpy(flat)}, path=f"/act?seed={SEED}")
        same({key: from_json(value) for key, value in reply.content.items()}, wanted)
        for form in n1_6.FORMS:
            batch = {
                "video": {"image": image[None, None], "wrist_image": wrist[None, None]},
                "state": {k: v[None, None].astype(np.float32) for k, v in columns(state).items()},
                "language": {LANGUAGE: [[TEXT]]},
            }
            flat_batch = {
                f"{modality}.{key}": value
                for modality in ("video", "state")
                for key, value in batch[modality].items()
            }
            for observation, prefix in ((batch, "action."), ({**flat_batch, LANGUAGE: [TEXT]}, "")):
                request = n1_6.get_action(observation, {"seed": SEED})
                actions, _ = n1_6.asked(ports[2], request, form)
                same({prefix + key: value[1][0] for key, value in actions.items()}, wanted)
        with client(ports[3]) as ws:
            asked(ws, message("hello", {"benchmark": vla_eval.LIBERO}))
            ws.send(message("episode_start", {"task": vla_eval.TASK}))
            content = {
                "images": {"agentview": png(image), "wrist": png(wrist)},
                "task_description": TEXT,
                "states": {"__ndarray__": True, "data": state.tobytes(), "dtype": "<f8", "shape": [8]},
            }
            for step in range(8):
                reply = asked(ws, message("observation", content, seq=step), timeout=60)
                assert array(reply["payload"]["actions"]).tobytes() == executed[step].tobytes()
        with client(ports[4]) as ws:
            ws.recv(5)
            told = {
                "observation/image": openpi.packed(image),
                "observation/wrist_image": openpi.packed(wrist),
                "observation/state": openpi.packed(state),
                "prompt": TEXT,
                "seed": SEED,
            }
            reply = asked(ws, msgpack.packb(told), timeout=60)
            assert array(reply["actions"]).tobytes() == executed.tobytes()
    assert old.worker.batch_sizes == {1: 8}


def same(got: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert sorted(got) == sorted(wanted)
    for key, value in wanted.items():
        assert (got[key].dtype, got[key].shape) == (value.dtype, value.shape)
        assert got[key].tobytes() == value.tobytes(), key


def from_json(value: dict[str, Any]) -> np.ndarray:
    data = base64.b64decode(json.loads(json.dumps(value))["__numpy__"])
    return np.frombuffer(data, value["dtype"]).reshape(value["shape"])
