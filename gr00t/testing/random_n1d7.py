"""Checkpoints of GR00T N1.7 with random weights, in NVIDIA's layout: to try programs, not policies.

Network and configuration only: what prepares observations is not written along.
"""

from __future__ import annotations

from pathlib import Path

import torch

from gr00t.model.checkpoint.folder_kind import CONFIG_FILE
from gr00t.model.checkpoint.n1d7.config import BACKBONE_FILE, Gr00tN1d7Config
from gr00t.model.gr00t_n1d7.gr00t_n1d7 import Gr00tN1d7
from gr00t.testing.random_checkpoint import random_weights

_HEAD = 32  # width of an attention head, which rotary positions of rows and columns divide


def small_n1d7_config(layers: int = 3, width: int = 128, vocab_size: int = 384) -> Gr00tN1d7Config:
    """An architecture with every part of the full-size one, small enough to act in a fraction of a second.

    Args:
        layers: of vision, language model and adapter; the DiT has four times as many, so that text and images
            are each read as often.
        width: of language model, adapter and DiT, a multiple of 32.
        vocab_size: the last of the tokens is that of an image.

    Raises:
        CheckpointError: sizes that do not fit together.
    """
    heads = width // _HEAD
    files = Gr00tN1d7Config.full_size().to_json_files()
    main, backbone = files[CONFIG_FILE], files[BACKBONE_FILE]
    main |= {"select_layer": layers, "backbone_embedding_dim": width, "hidden_size": width}
    main["input_embedding_dim"] = width
    head = {"attention_head_dim": _HEAD, "num_attention_heads": heads}
    main["diffusion_model_cfg"] |= {**head, "num_layers": 4 * layers, "output_dim": width}
    main["vl_self_attention_cfg"] |= {**head, "num_layers": layers}
    backbone["image_token_id"] = vocab_size - 1
    backbone["text_config"] |= {
        "head_dim": _HEAD,
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "num_key_value_heads": max(1, heads // 2),
        "rope_scaling": {"mrope_interleaved": True, "mrope_section": [6, 5, 5], "rope_type": "default"},
        "vocab_size": vocab_size,
    }
    backbone["vision_config"] |= {
        "deepstack_visual_indexes": list(range(layers)),
        "depth": layers,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_heads": 2,
        "num_position_embeddings": 256,
        "out_hidden_size": width,
    }
    return Gr00tN1d7Config.from_json_files(files)


def write_random_n1d7_checkpoint(
    folder: str | Path,
    config: Gr00tN1d7Config | None = None,
    *,
    seed: int = 0,
    torch_dtype: torch.dtype = torch.bfloat16,
) -> Path:
    """Write the network of a checkpoint with random weights and return its folder.

    Args:
        folder: made where it does not exist; what is there is replaced file by file.
        config: the architecture; `small_n1d7_config` if None.
        seed: of the weights.
        torch_dtype: of the weights, float32 or bfloat16.
    """
    model = Gr00tN1d7.on_meta(config or small_n1d7_config(), torch_dtype)
    model.load_state_dict(random_weights(model, seed), strict=True, assign=True)
    model.save_pretrained(folder)
    return Path(folder)
