"""A model whose weights are settled. Oracles: the same model before, and counts of calls."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn

from gr00t.cli.serving import server
from gr00t.cli.serving.arguments import ServeArguments
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.model.network.embodiment import ActionEncoder, common
from gr00t.model.policy import Gr00tPolicy
from gr00t.model.serving_form import settle_weights
from gr00t.quantization.report import model_bytes
from tests.model.parity_set import PARITY, ParitySet


def loaded(dtype: torch.dtype) -> tuple[ParitySet, GR00T_N1_5]:
    tiny = ParitySet.load(PARITY / "tiny_a")
    return tiny, GR00T_N1_5.from_pretrained(tiny.folder, torch_dtype=dtype)


@pytest.mark.parametrize(("dtype", "allowed"), [(torch.float32, 0.0), (torch.bfloat16, 0.05)])
@pytest.mark.parametrize("batch", [1, 3])
def test_answers_stay_what_they_were(dtype: torch.dtype, allowed: float, batch: int) -> None:
    """In bfloat16 0.0 on an AMD EPYC; layers as small as these go another way there than packed ones may."""
    tiny, model = loaded(dtype)

    def act() -> torch.Tensor:
        return model.get_action(tiny.inputs(batch), noise=tiny.noise(batch))["action_pred"]

    before = act()
    settle_weights(model)
    for _ in range(2):
        assert (act() - before).abs().max() <= allowed


def test_what_time_decides_is_computed_once_per_bucket_and_not_once_per_request() -> None:
    tiny, model = loaded(torch.float32)
    calls: list[int] = []
    head = model.action_head
    head.time_encoder.register_forward_hook(lambda module, args, output: calls.extend(args[0].tolist()))

    def act(steps: int) -> None:
        head.num_inference_timesteps = steps
        model.get_action(tiny.inputs(1), noise=tiny.noise(1))

    act(4)
    act(4)
    assert calls == [0, 250, 500, 750] * 2
    calls.clear()
    settle_weights(model)
    for steps in (4, 4, 8, 4, 8):
        act(steps)
    assert calls == [0, 250, 500, 750, 125, 375, 625, 875]


def test_the_weights_of_one_embodiment_are_not_copied() -> None:
    encoder = ActionEncoder(32, 32, 256).requires_grad_(False)
    actions, timesteps = torch.randn(3, 16, 32), torch.tensor([250])
    gathered = encoder(actions, timesteps, torch.tensor([5, 5, 5]))
    assert common(torch.tensor([5, 5, 5])) == 5
    mixed = torch.tensor([5, 5, 6])
    assert common(mixed) is mixed
    with torch.profiler.profile(profile_memory=True) as profiler:
        seen = encoder(actions, timesteps, 5)
    torch.testing.assert_close(seen, gathered)
    # One copy of layer2's weight for three samples would be 1.6 MB.
    allocated = max(event.self_cpu_memory_usage for event in profiler.events())
    assert allocated < 200_000


def test_a_server_settles_its_policy_and_nobody_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others may go on: quantize the model of a policy, for one."""
    asked: list[dict[str, object]] = []
    monkeypatch.setattr(server, "load_by_flags", lambda *_, **options: asked.append(options))
    server.load_policy(ServeArguments(server=True, model_path="x", compile=True), "x")
    assert asked == [{"seed": None, "compiled": True, "settled": True}]
    assert inspect.signature(Gr00tPolicy).parameters["settled"].default is False


def test_settled_weights_are_still_read() -> None:
    _, model = loaded(torch.bfloat16)
    expected = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    held = model_bytes(model)
    settle_weights(model)
    assert model_bytes(model) == held
    found = model.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not any(type(module) is nn.Linear for module in model.modules())
