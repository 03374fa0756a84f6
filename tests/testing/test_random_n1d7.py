"""Random checkpoints of GR00T N1.7. Oracles: loading them, and what each of their parts does to an action."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gr00t.model.checkpoints import open_checkpoint
from gr00t.model.gr00t_n1d7.gr00t_n1d7 import Gr00tN1d7
from gr00t.model.quantized_layers import DEFAULTS
from gr00t.quantization import DuQuantConfig, list_layers
from gr00t.testing.random_n1d7 import small_n1d7_config, write_random_n1d7_checkpoint
from tests.model.gr00t_n1d7.test_variants_n1d7 import request


def test_it_loads_acts_and_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    folders = [write_random_n1d7_checkpoint(tmp_path / str(n), seed=n // 2) for n in range(3)]
    files = [sorted(path.read_bytes() for path in folder.glob("*.safetensors")) for folder in folders]
    assert files[0] == files[1] != files[2]
    model, _ = open_checkpoint(folders[0]).load_model(torch.float32, {})
    assert isinstance(model, Gr00tN1d7)
    action = model.get_action(request(model.config), seeds=[1, 2, 3])["action_pred"]
    assert action.shape == (3, 40, 132)
    assert 0.1 < action.std() < 10


def test_every_weight_that_reaches_an_action_changes_it(tmp_path: Path) -> None:
    folder = write_random_n1d7_checkpoint(tmp_path, torch_dtype=torch.float32)
    model = Gr00tN1d7.from_pretrained(folder)
    inputs = request(model.config, (0,))
    noise = torch.ones(1, 40, 132)
    model.action_head.num_inference_timesteps = 1
    before = model.get_action(inputs, noise=noise)["action_pred"]
    unchanged = set()
    for name, parameter in model.named_parameters():
        kept = parameter.clone()
        parameter.mul_(1.5).add_(0.1)
        after = model.get_action(inputs, noise=noise)["action_pred"]
        parameter.copy_(kept)
        if (after - before).abs().max() < 1e-5:
            unchanged.add(name)
    # The softmax cancels what is added to all keys; the norm is never applied.
    assert {name for name in unchanged if not name.endswith("attn.k_proj.bias")} == {
        "backbone.language_model.norm.weight"
    }
    assert len(unchanged) == 1 + 3 + 12


@pytest.mark.parametrize("layers", [1, 2])
def test_sizes_are_those_that_are_asked_for(layers: int) -> None:
    config = small_n1d7_config(layers, 64, 300)
    assert (config.language.num_layers, config.language.vocab_size, config.image_token_id) == (
        layers,
        300,
        299,
    )
    model = Gr00tN1d7.on_meta(config)
    settings = DuQuantConfig.from_environ({"GR00T_DUQUANT_WBITS_DEFAULT": "4"}, DEFAULTS)
    assert settings is not None
    taken = [plan for plan in list_layers(model, settings, {}) if plan.spec is not None]
    assert len(taken) == layers * (7 + 8)
