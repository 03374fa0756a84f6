"""The architecture of the demonstration policy: every part of GR00T N1.5, a few million parameters.

SigLIP at 112 pixels, Qwen3 with fewer key than query heads, the adapter, a diffusion transformer with cross-
and self-attention, embodiments. Small enough to be trained on two cores, and to lie in a repository.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from gr00t.model.checkpoint.config import CONFIG_FILE, EAGLE_FILE, Gr00tConfig
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.model.network.embodiment import EmbodimentLinear
from gr00t.model.preprocessing.gr00t_transform import chat_prompt
from gr00t.testing.random_checkpoint import small_config, write_tokenizer

_WIDTH = 128
_HEAD = 32


def demo_config(image_token_index: int, vocab_size: int) -> Gr00tConfig:
    """The architecture, for a tokenizer with that image token and that many tokens."""
    small = small_config(layers=4, width=_WIDTH, image_token_index=image_token_index, vocab_size=vocab_size)
    files = small.to_json_files()
    main, eagle = files[CONFIG_FILE], files[EAGLE_FILE]
    head = main["action_head_cfg"]
    head |= {"num_target_vision_tokens": 4, "max_seq_len": 16}
    head["diffusion_model_cfg"]["num_layers"] = 6
    head["vl_self_attention_cfg"]["num_layers"] = 1
    eagle["force_image_size"] = 112
    # 49 tokens per image: most of the arithmetic is theirs.
    eagle["vision_config"] |= {
        "hidden_size": _WIDTH,
        "image_size": 112,
        "intermediate_size": 3 * _WIDTH,
        "num_attention_heads": _WIDTH // _HEAD,
        "num_hidden_layers": 3,
        "patch_size": 16,
    }
    return Gr00tConfig.from_json_files(files)


def write_untrained(folder: Path, sentences: Sequence[str], seed: int) -> None:
    """Write a checkpoint to start the training from: initial weights, and a tokenizer for `sentences`.

    The last layer of the action decoder is zero, so that the first velocities are; so are those that end the
    layers of the vision encoder, so that its tokens first say what their own patches show.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # The template around the instruction is merged into few tokens as well.
    prompts = [chat_prompt(str([sentence]), 2, 1) for sentence in sentences]
    config = demo_config(*write_tokenizer(folder, prompts))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GR00T_N1_5(config)
        # The usual 0.02 is for wide layers: here the actions would drown beside the time of the flow.
        for module in model.action_head.modules():
            if isinstance(module, EmbodimentLinear):
                torch.nn.init.normal_(module.weight, std=module.weight.shape[1] ** -0.5)
        vision: Any = model.backbone.vision  # of transformers
        for layer in vision.encoder.layers:
            torch.nn.init.zeros_(layer.self_attn.out_proj.weight)
            torch.nn.init.zeros_(layer.mlp.fc2.weight)
        vision.embeddings.position_embedding.weight.mul_(2.0)
        torch.nn.init.orthogonal_(model.backbone.connector.weight)
        torch.nn.init.zeros_(model.backbone.connector.bias)
        # And beside the actions a token could hardly tell which step of the chunk it is.
        positions = model.action_head.position_embedding
        assert positions is not None
        positions.mul_(20.0)
        future = model.action_head.future_tokens
        assert future is not None, "GR00T N1.5 has some"
        future.mul_(50.0)
    model.backbone.materialize_buffers()
    torch.nn.init.zeros_(model.action_head.action_decoder.layer2.weight)
    model.save_pretrained(folder)
