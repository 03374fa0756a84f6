"""Oracles: the noise itself, where nothing has been learned, and the bytes that a repository can hold."""

from __future__ import annotations

from pathlib import Path

import torch

from examples.Libero.demo_policy.training.architecture import write_untrained
from gr00t.data.embodiment_tags import EMBODIMENT_TAG_MAPPING
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.model.preprocessing.gr00t_transform import chat_prompt
from gr00t.model.preprocessing.tokenizer import resolve_tokenizer


def test_untrained_it_answers_with_the_noise_and_has_every_part(tmp_path: Path) -> None:
    write_untrained(tmp_path, ["pick up the milk and place it in the basket"], seed=0)
    model = GR00T_N1_5.from_pretrained(tmp_path)
    config = model.config
    assert config.language.num_key_value_heads < config.language.num_heads
    assert model.adapter is not None
    assert {layer.is_cross for layer in model.action_head.layers} == {True, False}
    # 6.3 million parameters: 12.5 MB in bfloat16, of the 20 that a repository should carry.
    assert 2 * sum(parameter.numel() for parameter in model.parameters()) < 20e6

    tokens = resolve_tokenizer(tmp_path, None).encode(chat_prompt("lift it", 2, config.tokens_per_image))
    ids = torch.tensor([tokens])
    inputs = {
        "eagle_pixel_values": torch.zeros(2, 3, config.image_size, config.image_size),
        "eagle_input_ids": ids,
        "eagle_attention_mask": torch.ones_like(ids),
        "state": torch.zeros(1, 1, config.max_state_dim),
        "embodiment_id": torch.tensor([EMBODIMENT_TAG_MAPPING["new_embodiment"]]),
    }
    noise = torch.randn(1, 16, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.get_action(inputs, noise=noise)["action_pred"], noise)


def test_a_token_of_the_chunk_knows_which_one_it_is(tmp_path: Path) -> None:
    write_untrained(tmp_path, ["pick up the milk and place it in the basket"], seed=0)
    head = GR00T_N1_5.from_pretrained(tmp_path).action_head
    robots = torch.tensor([EMBODIMENT_TAG_MAPPING["new_embodiment"]])
    noise = torch.randn(1, 16, 32, generator=torch.Generator().manual_seed(0))
    actions = head.action_encoder(noise, torch.zeros(1, dtype=torch.int64), robots)
    assert head.position_embedding is not None
    # Measured: 0.41 beside 0.49; 0.02 as it is initialised for wide layers.
    assert 0.5 < head.position_embedding.std() / actions.std() < 2.0
