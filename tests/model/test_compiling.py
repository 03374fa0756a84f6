"""Oracle: the model before it was compiled. A traced graph that is run as it is computes the same bits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gr00t.model.checkpoint.config import Gr00tConfig
from gr00t.model.checkpoint.folder import module_aliases
from gr00t.model.compiling import compile_model
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.model.quantized_layers import DEFAULTS
from gr00t.quantization import enable_duquant_if_configured
from gr00t.testing.random_checkpoint import write_random_checkpoint


def request(config: Gr00tConfig) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(5, 300, (1, 60), generator=generator)
    tokens[:, 5 : 5 + 2 * config.tokens_per_image] = config.image_token_index
    size = config.image_size
    return {
        "eagle_pixel_values": torch.randn(2, 3, size, size, generator=generator),
        "eagle_input_ids": tokens,
        "eagle_attention_mask": torch.ones_like(tokens),
        "state": torch.randn(1, 1, config.max_state_dim, generator=generator),
        "embodiment_id": torch.tensor([31]),
    }


@pytest.mark.parametrize("execution", [None, "integer"])
def test_a_traced_model_answers_the_same_bits(tmp_path: Path, execution: str | None) -> None:
    folder = write_random_checkpoint(tmp_path, torch_dtype=torch.float32)
    model = GR00T_N1_5.from_pretrained(folder)
    if execution is not None:
        settings = {"GR00T_DUQUANT_CALIB_STEPS": "0", "GR00T_DUQUANT_EXECUTION": execution}
        assert enable_duquant_if_configured(model, settings, module_aliases(model), DEFAULTS)
    inputs = request(model.config)
    eager = model.get_action(inputs, seeds=[0])["action_pred"]
    traced: list[object] = []
    compile_model(model, backend=lambda graph, examples: traced.append(graph) or graph.forward)
    assert torch.equal(model.get_action(inputs, seeds=[0])["action_pred"], eager)
    # Vision, language model, adapter, and velocity: each was traced, in one graph or more.
    assert len(traced) >= 4
