"""The model as a whole: what it draws, what it computes once, and how it stands on `meta` and in bfloat16.

Oracles: torch's own generator; counts of calls; the float32 model.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from gr00t.model.checkpoint.config import Gr00tConfig
from gr00t.model.gr00t_n1 import GR00T_N1_5
from tests.model.parity_set import PARITY, ParitySet


def calls(modules: list[nn.Module], count_in: list[int]) -> None:
    for module in modules:
        module.register_forward_hook(lambda *_: count_in.append(1))


@pytest.fixture
def tiny() -> ParitySet:
    """A set whose model a test may change."""
    return ParitySet.load(PARITY / "tiny_a")


def test_a_sample_gets_the_noise_of_its_seed_in_any_batch(tiny: ParitySet) -> None:
    def noise(seed: int) -> torch.Tensor:
        return torch.randn((1, 16, 32), generator=torch.Generator().manual_seed(seed))

    given = tiny.act(3, noise=torch.cat([noise(5), noise(6), noise(7)]))
    assert torch.equal(tiny.act(3, seeds=[5, 6, 7]), given)


def test_seeds_leave_the_global_generator_alone_and_without_them_it_is_drawn_once(tiny: ParitySet) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    tiny.act(1, seeds=[3])
    assert torch.equal(torch.get_rng_state(), before)
    tiny.act(1, seeds=None)
    after = torch.get_rng_state()
    torch.manual_seed(0)
    torch.randn(1, 16, 32)
    assert torch.equal(torch.get_rng_state(), after)


def test_a_request_is_one_call_of_the_model(tiny: ParitySet) -> None:
    requests: list[int] = []
    calls([tiny.model], requests)
    tiny.act(3, steps=8)
    assert len(requests) == 1


def test_cross_attention_projects_its_context_once_per_request(tiny: ParitySet) -> None:
    cross, own = [], []
    layers = tiny.model.action_head.layers
    calls([layer.attn.k_proj for layer in layers if layer.is_cross], cross)
    calls([layer.attn.k_proj for layer in layers if not layer.is_cross], own)
    tiny.act(1, steps=8)
    # Two cross-attention and two self-attention blocks, eight steps.
    assert (len(cross), len(own)) == (2, 2 * 8)


@pytest.mark.parametrize(
    ("buckets", "steps", "expected"),
    [
        (1000, 4, [0, 250, 500, 750]),
        (1000, 3, [0, 333, 666]),
        # In the reference's floating point 7 / 10 * 90 falls short of 63.
        (90, 10, [0, 9, 18, 27, 36, 45, 54, 62, 72, 81]),
    ],
)
def test_the_flow_is_evaluated_at_the_references_buckets(
    tiny: ParitySet, buckets: int, steps: int, expected: list[int]
) -> None:
    head = tiny.model.action_head
    head.config = replace(head.config, num_timestep_buckets=buckets)
    seen: list[int] = []
    head.time_encoder.register_forward_pre_hook(lambda module, args: seen.extend(args[0].tolist()))
    tiny.act(1, steps=steps)
    assert seen == expected


def test_linear_layers_may_be_replaced_by_other_modules(tiny: ParitySet) -> None:
    class Other(nn.Module):
        def __init__(self, linear: nn.Linear) -> None:
            super().__init__()
            self.inner = linear

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x)

    expected = tiny.act(1)
    for name, module in list(tiny.model.named_modules()):
        if isinstance(module, nn.Linear):
            parent, _, child = name.rpartition(".")
            setattr(tiny.model.get_submodule(parent), child, Other(module))
    assert torch.equal(tiny.act(1), expected)
    assert tiny.model.dtype == torch.float32
    assert tiny.model.device == torch.device("cpu")


def test_on_meta_nothing_but_small_buffers_is_real() -> None:
    model = GR00T_N1_5.on_meta(Gr00tConfig.full_size(), torch.bfloat16)
    assert {(p.device.type, p.dtype, p.requires_grad) for p in model.parameters()} == {
        ("meta", torch.bfloat16, False)
    }
    buffers = dict(model.named_buffers())
    assert list(buffers) == ["backbone.vision.embeddings.position_ids"]
    assert torch.equal(buffers["backbone.vision.embeddings.position_ids"], torch.arange(256).unsqueeze(0))
    assert not model.training


def test_the_dtype_must_be_one_that_is_served() -> None:
    with pytest.raises(
        ValueError, match=r"torch_dtype must be one of torch.float32, torch.bfloat16, got torch.float16"
    ):
        GR00T_N1_5.from_pretrained(PARITY / "tiny_a", torch_dtype=torch.float16)


def test_rotary_frequencies_stay_float32_whatever_the_model_becomes(tiny: ParitySet) -> None:
    theta, size = tiny.model.config.language.rope_theta, tiny.model.config.language.head_dim
    positions = torch.arange(560).unsqueeze(0)
    exact = positions[..., None].double() * theta ** -(torch.arange(0, size, 2).double() / size)
    exact = torch.cat([exact, exact], dim=-1)
    rotary = tiny.model.bfloat16().backbone.language_model.rotary_emb
    cosines, sines = rotary(torch.zeros(1), positions)
    # float32 angles up to 560 are within 3e-5; with bfloat16 frequencies they would be off by 1.
    assert (cosines - exact.cos()).abs().max() < 1e-4
    assert (sines - exact.sin()).abs().max() < 1e-4


def test_converting_equals_loading_in_bfloat16(tiny: ParitySet) -> None:
    converted = copy.deepcopy(tiny.model).bfloat16()
    loaded = GR00T_N1_5.from_pretrained(tiny.folder, torch_dtype=torch.bfloat16)
    actions = [m.get_action(tiny.inputs(3), noise=tiny.noise(3))["action_pred"] for m in (converted, loaded)]
    assert torch.equal(*actions)


def test_another_horizon_changes_neither_dtype_nor_mode() -> None:
    files = Gr00tConfig.from_folder(PARITY / "tiny_a").to_json_files()
    files["config.json"]["action_head_cfg"]["action_horizon"] = files["config.json"]["action_horizon"] = 8
    model = GR00T_N1_5(Gr00tConfig.from_json_files(files)).bfloat16()
    inputs = ParitySet.load(PARITY / "tiny_a").inputs(1)
    assert model.get_action(inputs, seeds=[0])["action_pred"].shape == (1, 8, 32)
    assert model.dtype == torch.bfloat16
    assert not any(module.training for module in model.modules())


@pytest.mark.gpu
def test_on_a_gpu_the_actions_stay_near_the_references() -> None:
    tiny = ParitySet.load(PARITY / "tiny_a")
    tiny.model.cuda()
    # Another summation order and TF32 off by default: an order of magnitude above the CPU's 1.4e-6.
    assert (tiny.act(1).cpu() - tiny.golden["b1_n4/action_pred"]).abs().max() <= 1e-4
    batch = tiny.act(3).cpu()
    assert (batch[0] - tiny.golden["b3_solo0_n4/action_pred"][0]).abs().max() <= 1e-4
