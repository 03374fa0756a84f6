"""What N1.5's clients send for every data configuration. Oracle: its wire format, written out here.

The bytes are made with msgpack and numpy alone, as N1.5's service makes them, and read in the same way.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from gr00t.data.transform.base import ModalityTransform
from gr00t.serving.example_request import describe_observation, example_of
from gr00t.serving.http.server import HTTPInferenceServer
from gr00t.serving.robot import RobotInferenceServer
from tests.experiment.every_configuration import CONFIGURATIONS, Policies
from tests.serving.http.http_sockets import as_json_numpy, ask, serving_http
from tests.serving.socket_helpers import client_at, serving

TASK = "annotation.human.action.task_description"


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> Policies:
    return Policies(tmp_path_factory.mktemp("every"))


def pack(value: Any) -> Any:
    """What N1.5's packer makes of an array."""
    if isinstance(value, np.ndarray):
        buffer = io.BytesIO()
        np.save(buffer, value, allow_pickle=False)
        return {"__ndarray_class__": True, "as_npy": buffer.getvalue()}
    return value


def unpack(fields: dict[str, Any]) -> Any:
    return np.load(io.BytesIO(fields["as_npy"])) if "__ndarray_class__" in fields else fields


def asked(server: RobotInferenceServer, observation: dict[str, Any], **extra: Any) -> dict[str, Any]:
    request = {"endpoint": "get_action", "data": observation, **extra}
    reply: dict[str, Any] = msgpack.unpackb(
        server.handle(msgpack.packb(request, default=pack)), object_hook=unpack
    )
    return reply


def observation_of(policy: Any, key: str | None = TASK) -> dict[str, Any]:
    """One observation as N1.5's own client makes it: noise, one text under its one key."""
    random = np.random.default_rng(0)
    observation: dict[str, Any] = {}
    for name, video in policy.metadata.modalities.video.items():
        width, height = video.resolution
        observation[f"video.{name}"] = random.integers(0, 256, (1, height, width, 3), dtype=np.uint8)
    for name, state in policy.metadata.modalities.state.items():
        observation[f"state.{name}"] = random.random((1, state.shape[0]))
    if key is not None:
        observation[key] = ["do your thing!"]
    return observation


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_n1_5s_client_is_answered_for_every_configuration(policies: Policies, name: str) -> None:
    policy = policies.load(name)
    server = RobotInferenceServer(policy, port=0)
    seed = {"options": {"seed": 7}}
    shapes = {
        f"action.{key}": (16, action.shape[0]) for key, action in policy.metadata.modalities.action.items()
    }
    (configured,) = policy.modality_config["language"].modality_keys
    answer = asked(server, observation_of(policy), **seed)
    assert {key: value.shape for key, value in answer.items()} == shapes
    assert all(value.dtype == np.float32 and np.isfinite(value).all() for value in answer.values())
    # The key makes no difference, no instruction at all does, and both are answered.
    same = asked(server, observation_of(policy, configured), **seed)
    other = asked(server, observation_of(policy, None), **seed)
    for key, value in answer.items():
        np.testing.assert_array_equal(same[key], value)
    assert any((other[key] != value).any() for key, value in answer.items())
    # Our own client builds its observation from what the server says.
    ours = example_of(describe_observation(policy.get_modality_config(), policy.metadata))
    assert {key: value.shape for key, value in asked(server, ours).items()} == shapes
    server.close()


def test_the_notebooks_and_evaluation_scripts_forms_are_answered(policies: Policies) -> None:
    """Batches of simulators, float32 states, frames of another size of that shape, text as a bare string."""
    policy = policies.load("so100_dualcam")
    server = RobotInferenceServer(policy, port=0)
    one = observation_of(policy, None)
    for change, batch in [
        ({"annotation.human.task_description": "pick up"}, None),
        ({"annotation.human.task_description": [["pick up"]]}, None),
        ({key: value.astype(np.float32) for key, value in one.items() if key.startswith("state")}, None),
        ({"video.front": np.zeros((1, 480, 640, 3), np.uint8)}, None),
        ({"extra": None, "timestamp": 1.5}, None),
        ({**{k: np.stack([v] * 3) for k, v in one.items()}, "annotation.x": ["a", "b", "c"]}, 3),
        ({**{k: np.stack([v] * 3) for k, v in one.items()}, "annotation.x": [["a"], ["b"], ["c"]]}, 3),
    ]:
        answer = asked(server, {**one, **change})
        assert answer["action.single_arm"].shape == ((16, 5) if batch is None else (batch, 16, 5)), change
    server.close()


class Widen(ModalityTransform):
    """A user's own first step: square frames to 4:3, by black bars; a fourth channel is dropped."""

    def apply(self, data: dict[str, Any]) -> dict[str, Any]:
        for key in self.apply_to:
            frames = data[key][..., :3]
            bar = frames.shape[-2] // 6
            data[key] = np.pad(frames, [(0, 0)] * (frames.ndim - 2) + [(bar, bar), (0, 0)])
        return data


def test_frames_that_were_resized_are_refused_unless_ones_own_first_transform_restores_them(
    policies: Policies,
) -> None:
    policy = policies.load("so100", (640, 480))
    server = RobotInferenceServer(policy, port=0)
    square = observation_of(policy) | {"video.webcam": np.full((1, 240, 240, 3), 9, np.uint8)}
    reply = asked(server, square)
    assert reply["error"] == (
        "video.webcam: expected frames of 640x480 pixels (width x height) or another resolution of that "
        "aspect ratio, got 240x240; send what the camera gives, which is resized here, or put a transform "
        "that restores the aspect ratio before VideoToTensor in the data config"
    )
    # Its first step is asked before anything looks at the pixels.
    widen = Widen(apply_to=["video.webcam"])
    policy.modality_transform.transforms.insert(0, widen)
    wide = np.pad(square["video.webcam"], [(0, 0), (0, 0), (40, 40), (0, 0)])
    seed = {"options": {"seed": 1}}
    answer = asked(server, square, **seed)["action.single_arm"]
    fourth = np.concatenate([square["video.webcam"]] * 2, axis=-1)[..., :4]
    with_fourth = asked(server, square | {"video.webcam": fourth}, **seed)["action.single_arm"]
    policy.modality_transform.transforms.remove(widen)
    expected = asked(server, square | {"video.webcam": wide}, **seed)["action.single_arm"]
    np.testing.assert_array_equal(answer, expected)
    np.testing.assert_array_equal(with_fourth, expected)
    server.close()


def test_both_languages_give_the_same_action(policies: Policies, tmp_path: Path) -> None:
    policy = policies.load("fourier_gr1_arms_waist", (256, 256))
    observation = observation_of(policy)
    with serving(policy) as (_, port), client_at(port, timeout_ms=30_000) as client:
        config = client.get_modality_config()
        expected = client.get_action(observation, seed=3)
    assert config["language"].modality_keys == ["annotation.human.coarse_action"]
    with serving_http(policy) as (server, port):
        assert isinstance(server, HTTPInferenceServer)
        reply = ask(port, {"observation": as_json_numpy(observation)}, path="/act?seed=3")
        refused = ask(port, {"observation": as_json_numpy({**observation, "state.waist": np.zeros((1, 4))})})
    assert reply.content == json.loads(json.dumps(as_json_numpy(expected)))
    assert refused.content == {"detail": "state.waist: expected shape (1, 3), got (1, 4)"}
    assert refused.status == 400
