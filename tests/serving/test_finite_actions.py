"""No action that is not finite reaches a robot. Oracle: finite numbers, or an error that names the key."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gr00t.data.actions import ActionError, check_actions
from gr00t.data.errors import ObservationError
from gr00t.model.policy import Gr00tPolicy
from gr00t.serving.client import ServerError
from gr00t.serving.robot import RobotInferenceServer
from gr00t.serving.wires import n1_5 as wire
from tests.model.test_batched_policy import QUANTIZED, TASK, Submitted, load, observe
from tests.serving.recorded import recorded
from tests.serving.socket_helpers import client_at, serving


@pytest.fixture(scope="module", params=[{}, QUANTIZED], ids=["float32", "w4a8"])
def policy(request: pytest.FixtureRequest, checkpoint: Path) -> Gr00tPolicy:
    return load(checkpoint, request.param, denoising_steps=1)


def spoil(policy: Gr00tPolicy, monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    """Let the network compute `value` for every sample whose first noise is 5."""
    compute = policy.model.get_action

    def computed(inputs: Any, *, noise: torch.Tensor) -> dict[str, torch.Tensor]:
        actions = compute(inputs, noise=noise)["action_pred"]
        actions[noise[:, 0, 0] == 5, 3, 1] = value
        return {"action_pred": actions}

    monkeypatch.setattr(policy.model, "get_action", computed)


def marked(policy: Gr00tPolicy) -> torch.Tensor:
    shape = (1, policy.model.config.action_horizon, policy.model.config.action_dim)
    return torch.full(shape, 5.0)


@pytest.mark.parametrize("value", [1e30, -1e38, 1e300, float(np.finfo(np.float32).max), 1e20, 1e12])
def test_extreme_states_are_refused_by_name(policy: Gr00tPolicy, value: float) -> None:
    observation = {**observe(0), "state.yaw": np.array([[value]])}
    with pytest.raises(ObservationError, match=r"state\.yaw: .* cannot be a state of this robot"):
        policy.get_action(observation)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_states_that_are_no_numbers_are_refused_by_name(policy: Gr00tPolicy, value: float) -> None:
    with pytest.raises(ObservationError, match=r"state\.yaw: expected finite numbers"):
        policy.get_action({**observe(0), "state.yaw": np.array([[value]])})


def test_what_is_let_through_gives_finite_actions(policy: Gr00tPolicy) -> None:
    for value in (1e5, -9e5):
        actions = policy.get_action({**observe(0), "state.yaw": np.array([[value]])}, seeds=1)
        assert all(np.isfinite(array).all() for array in actions.values())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_policy_asked_directly_raises(
    policy: Gr00tPolicy, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    spoil(policy, monkeypatch, value)
    with pytest.raises(ActionError, match=rf"action\.y: the policy computed {value} at \[3, 0\]; 1 of 16 nu"):
        policy.get_action(observe(0), noise=marked(policy))


def test_only_the_guilty_one_of_a_batch_gets_the_error(
    policy: Gr00tPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = policy.prepare

    def prepared(observation: dict[str, Any], **options: Any) -> Any:
        if observation[TASK] == ["guilty"]:
            return prepare(observation, noise=marked(policy))
        return prepare(observation, **options)

    monkeypatch.setattr(policy, "prepare", prepared)
    spoil(policy, monkeypatch, np.nan)
    submitted = Submitted(policy)
    with contextlib.closing(submitted.server):
        asked = [{**observe(1), TASK: [text]} for text in ("one", "guilty", "two")]
        outcomes = submitted.run(asked)
    assert submitted.worker.batch_sizes == {3: 1}  # nothing was computed again
    assert "action.y: the policy computed nan" in outcomes[1].text
    for number in (0, 2):
        assert all(np.isfinite(array).all() for array in outcomes[number].values())


class Broken:
    """A policy as anybody may write one."""

    def get_action(self, observations: dict[str, Any]) -> dict[str, Any]:
        return {"action.x": np.array([[0.5, np.inf]]), "action.y": np.zeros((2, 1))}

    def get_modality_config(self) -> dict[str, Any]:
        return {}


def test_no_server_sends_what_is_not_finite_whatever_policy_it_serves() -> None:
    with contextlib.closing(RobotInferenceServer(Broken(), port=0)) as server:
        assert wire.unpack(server.handle(recorded("req_get_action_small"))) == {
            "error": "action.x: the policy computed inf at [0, 1]; 1 of 2 numbers are not finite and no "
            "action is sent"
        }
    with serving(Broken()) as (_, port), client_at(port) as client, pytest.raises(ServerError, match=" inf "):
        client.get_action({})


def test_numbers_of_every_kind_are_looked_at() -> None:
    fine = {"a": np.arange(3), "b": [0.5, 1], "c": 2.0, "d": "text", "e": np.array(["x"]), "f": None}
    assert check_actions(fine) is fine
    for bad in (np.array(np.nan), [1.0, float("inf")], float("nan"), np.array([1], np.float16) * np.inf):
        with pytest.raises(ActionError, match="a: the policy computed"):
            check_actions({"a": bad})


@pytest.mark.parametrize("text", ["x " * 999, "\U0001f916" * 600])
def test_a_long_instruction_is_refused_by_its_tokens(checkpoint: Path, text: str) -> None:
    policy = load(checkpoint, {})
    with pytest.raises(ObservationError, match=r"a prompt of \d+ tokens beside its images; at most 1024"):
        policy.prepare({**observe(0), TASK: [text]})
