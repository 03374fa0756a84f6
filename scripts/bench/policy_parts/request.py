"""One request as LIBERO makes them: two images, 566 tokens."""

from __future__ import annotations

from typing import Any

import torch

from gr00t.model.checkpoint.config import Gr00tConfig

_TOKENS = 566
_IMAGES = 2
EMBODIMENT = 31


def random_request(config: Gr00tConfig) -> dict[str, Any]:
    """Inputs by NVIDIA's names, always the same."""
    generator = torch.Generator().manual_seed(0)
    images = _IMAGES * config.tokens_per_image
    tokens = torch.randint(0, 1000, (1, max(_TOKENS, images + 54)), generator=generator)
    tokens %= config.language.vocab_size
    tokens[tokens == config.image_token_index] = 0
    tokens[:, 20 : 20 + images] = config.image_token_index
    size = config.image_size
    return {
        "eagle_pixel_values": torch.randn(_IMAGES, 3, size, size, generator=generator),
        "eagle_input_ids": tokens,
        "eagle_attention_mask": torch.ones_like(tokens),
        "state": torch.randn(1, 1, config.max_state_dim, generator=generator),
        "embodiment_id": torch.tensor([EMBODIMENT]),
    }
