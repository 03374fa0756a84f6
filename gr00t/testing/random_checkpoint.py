"""Checkpoints with random weights, in NVIDIA's layout: for demonstrations, and for tests without a download.

Everything around the weights is real: the files, their names, the metadata, a tokenizer. Such a checkpoint
loads, quantizes, serves and moves a robot, but it has learned nothing and solves no task. The same arguments
give the same bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gr00t.model.checkpoint.config import CONFIG_FILE, EAGLE_FILE, Gr00tConfig
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.model.network.model import Gr00tModel
from gr00t.model.preprocessing.tokenizer import IMAGE_TOKEN, PAD_TOKEN, SPECIAL_TOKENS

# What a household robot is told; the tokenizer learns its merges from these.
SENTENCES = (
    "Pick up the bottle and put it in the basket.",
    "place the tomato soup into the basket on the floor",
    "put the milk carton and the butter in the basket",
    "take the orange juice from the table and place it in the basket",
    "pick up the black bowl next to the plate and place it on the plate",
    "push the plate to the front of the stove",
    "open the top drawer of the cabinet and put the bowl inside",
    "close the bottom drawer of the wooden cabinet",
    "turn on the stove and put the moka pot on it",
    "put both mugs on the left plate",
    "pick up the book and place it in the back compartment of the caddy",
    "put the wine bottle on top of the rack",
    "You are a helpful assistant. The system answers the user.",
)
_VOCABULARY = 384

# Reach of the arm over LIBERO's floor and table, in metres and radians. Actions span the controller's range.
_STATE_RANGE = {
    "x": [(-0.6, 0.6)],
    "y": [(-0.6, 0.6)],
    "z": [(0.0, 1.5)],
    "roll": [(-4.0, 4.0)],
    "pitch": [(-4.0, 4.0)],
    "yaw": [(-4.0, 4.0)],
    "gripper": [(0.0, 0.04), (-0.04, 0.0)],
}
_ACTION_RANGE = {
    **{key: [(-0.9, 0.9)] for key in ("x", "y", "z")},
    **{key: [(-0.3, 0.3)] for key in ("roll", "pitch", "yaw")},
    "gripper": [(0.0, 1.0)],
}


def small_config(**sizes: int) -> Gr00tConfig:
    """An architecture with every part of the full-size one, small enough to act in a fraction of a second.

    Args:
        sizes: instead of the defaults, any of `layers` (of vision, language model and adapter; the DiT has
            twice as many), `width` (of language model, adapter and DiT, a multiple of 32),
            `image_token_index` and `vocab_size`.

    Raises:
        TypeError: an unknown size.
        CheckpointError: sizes that do not fit together.
    """
    wanted = {"layers": 2, "width": 128, "image_token_index": 4, "vocab_size": _VOCABULARY}
    unknown = sizes.keys() - wanted.keys()
    if unknown:
        raise TypeError(f"unknown sizes: {', '.join(sorted(unknown))}; known: {', '.join(wanted)}")
    wanted |= sizes
    layers, width = wanted["layers"], wanted["width"]
    heads = width // 32
    files = Gr00tConfig.full_size().to_json_files()
    main, eagle = files[CONFIG_FILE], files[EAGLE_FILE]
    main["hidden_size"] = width
    main["backbone_cfg"] |= {"select_layer": layers, "eagle_path": "small"}
    head = main["action_head_cfg"]
    head |= {"backbone_embedding_dim": width, "hidden_size": width, "input_embedding_dim": width}
    head["diffusion_model_cfg"] |= {
        "attention_head_dim": 32,
        "cross_attention_dim": width,
        "num_attention_heads": heads,
        "num_layers": 2 * layers,
        "output_dim": width,
    }
    head["vl_self_attention_cfg"] |= {
        "attention_head_dim": 32,
        "num_attention_heads": heads,
        "num_layers": layers,
    }
    eagle["image_token_index"] = wanted["image_token_index"]
    eagle["text_config"] |= {
        "head_dim": 32,
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "num_key_value_heads": max(1, heads // 2),
        "vocab_size": wanted["vocab_size"],
    }
    # 56-pixel patches: 16 tokens per image instead of 256.
    eagle["vision_config"] |= {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_attention_heads": 2,
        "num_hidden_layers": layers,
        "patch_size": 56,
    }
    return Gr00tConfig.from_json_files(files)


def random_weights(model: Gr00tModel, seed: int = 0) -> dict[str, Tensor]:
    """Weights for a model built on `meta`: variance-preserving matrices, norms near one, small biases.

    Every tensor has its own generator, seeded by its place: two architectures share no numbers by accident.
    """
    state = {}
    for place, (name, tensor) in enumerate(sorted(model.state_dict().items())):
        generator = torch.Generator("cpu").manual_seed(seed * 1_000_003 + place)
        values = torch.randn(tensor.shape, generator=generator)
        if tensor.ndim > 1:
            # An embodiment's matrices are (E, in, out), everything else is (out, in, ...).
            per_embodiment = tensor.ndim == 3 and tensor.shape[0] == model.config.num_embodiments
            values *= 1.0 / math.sqrt(tensor.shape[1] if per_embodiment else math.prod(tensor.shape[1:]))
        elif name.endswith("weight"):
            values = 1.0 + 0.1 * values
        else:
            values *= 0.02
        state[name] = values.to(tensor.dtype)
    return state


def write_random_checkpoint(
    folder: str | Path,
    config: Gr00tConfig | None = None,
    *,
    seed: int = 0,
    torch_dtype: torch.dtype = torch.bfloat16,
) -> Path:
    """Write a complete checkpoint with random weights and return its folder.

    Args:
        folder: made where it does not exist; what is there is replaced file by file.
        config: the architecture. None: `small_config` for the tokenizer that is written along. With an
            architecture of the caller's, whose vocabulary is another, no tokenizer is written.
        seed: of the weights.
        torch_dtype: of the weights, float32 or bfloat16.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if config is None:
        image_token, size = write_tokenizer(folder)
        config = small_config(image_token_index=image_token, vocab_size=size)
    model = GR00T_N1_5.on_meta(config, torch_dtype)
    model.load_state_dict(random_weights(model, seed), strict=True, assign=True)
    model.save_pretrained(folder)
    metadata = folder / "experiment_cfg" / "metadata.json"
    metadata.parent.mkdir(exist_ok=True)
    metadata.write_text(json.dumps({"new_embodiment": libero_metadata()}, indent=2) + "\n", encoding="utf-8")
    return folder


def write_tokenizer(folder: Path, sentences: Sequence[str] = SENTENCES) -> tuple[int, int]:
    """Train a small byte-level tokenizer, which can write any text, and save it as `tokenizer.json`.

    Returns:
        The id of the image token and the number of tokens.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=[PAD_TOKEN, *SPECIAL_TOKENS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sentences, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    image_token = tokenizer.token_to_id(IMAGE_TOKEN)
    assert image_token is not None, "one of the special tokens"
    return image_token, tokenizer.get_vocab_size(with_added_tokens=True)


def libero_metadata() -> dict[str, Any]:
    """The entry of metadata.json for LIBERO's two cameras, states and actions, with round statistics."""

    def statistics(ranges: list[tuple[float, float]]) -> dict[str, list[float]]:
        low, high = [low for low, _ in ranges], [high for _, high in ranges]
        return {
            "max": high,
            "min": low,
            "mean": [(a + b) / 2 for a, b in ranges],
            "std": [(b - a) / 4 for a, b in ranges],
            "q01": low,
            "q99": high,
        }

    def shape(ranges: list[tuple[float, float]]) -> dict[str, Any]:
        return {"absolute": True, "rotation_type": None, "shape": [len(ranges)], "continuous": True}

    camera = {"resolution": [256, 256], "channels": 3, "fps": 20.0}
    tables = {"state": _STATE_RANGE, "action": _ACTION_RANGE}
    return {
        "embodiment_tag": "new_embodiment",
        "modalities": {
            "video": {"image": camera, "wrist_image": camera},
            **{kind: {key: shape(ranges) for key, ranges in table.items()} for kind, table in tables.items()},
        },
        "statistics": {
            kind: {key: statistics(ranges) for key, ranges in table.items()} for kind, table in tables.items()
        },
    }
