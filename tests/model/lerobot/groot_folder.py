"""A small policy folder as lerobot 0.4.0 to 0.5.1 write it, and the checkpoint that it began from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from gr00t.testing.random_checkpoint import write_random_checkpoint

CAMERAS = {"observation.images.wrist": (60, 80), "observation.images.front": (48, 64)}  # height, width
STATE_DIM, ACTION_DIM = 8, 7


def statistics() -> dict[str, torch.Tensor]:
    """Flat, as lerobot saves them: of states, actions, and of a camera, which nobody reads."""
    generator = torch.Generator().manual_seed(3)
    found = {"observation.images.front.mean": torch.full((3, 1, 1), 0.5)}
    for key, width in (("observation.state", STATE_DIM), ("action", ACTION_DIM)):
        low = torch.randn(width, generator=generator)
        high = low + torch.rand(width, generator=generator) + 0.1
        high[2] = low[2]  # it never moved
        found |= {f"{key}.min": low, f"{key}.max": high, f"{key}.mean": (low + high) / 2}
    return found


def write_groot_folder(
    folder: Path,
    base: Path,
    *,
    config: dict[str, Any] | None = None,
    pack: dict[str, Any] | None = None,
    stats: dict[str, torch.Tensor] | None = None,
    rename: dict[str, str] | None = None,
    weights: bool = True,
) -> Path:
    """Write the folder, with a checkpoint of NVIDIA's layout beside it, and return it.

    Args:
        folder: of the policy.
        base: folder of the checkpoint that the policy began from.
        config: entries of config.json to replace.
        pack: settings of the step that packs the inputs to replace.
        stats: of the data, flat.
        rename: cameras by the names of the robot.
        weights: write them, too.
    """
    if not base.exists():
        write_random_checkpoint(base, torch_dtype=torch.float32)
    folder.mkdir(parents=True)
    weights: dict[str, torch.Tensor] = {}
    for file in sorted(base.glob("model-*.safetensors")):
        weights |= load_file(file)
    save_file(
        {f"_groot_model.{name}": value for name, value in weights.items()}, folder / "model.safetensors"
    )
    shutil.copyfile(base / "tokenizer.json", folder / "tokenizer.json")
    values = {
        "type": "groot",
        "n_obs_steps": 1,
        "input_features": {
            **{key: {"type": "VISUAL", "shape": [3, *size]} for key, size in CAMERAS.items()},
            "observation.state": {"type": "STATE", "shape": [STATE_DIM]},
        },
        "output_features": {"action": {"type": "ACTION", "shape": [ACTION_DIM]}},
        "device": "cuda",
        "chunk_size": 50,
        "n_action_steps": 50,
        "max_state_dim": 64,
        "max_action_dim": 32,
        "normalization_mapping": {"VISUAL": "IDENTITY", "STATE": "MEAN_STD", "ACTION": "MEAN_STD"},
        "image_size": [224, 224],
        "base_model_path": str(base),
        "tokenizer_assets_repo": "lerobot/eagle2hg-processor-groot-n1p5",
        "embodiment_tag": "new_embodiment",
    }
    (folder / "config.json").write_text(json.dumps(values | (config or {}), indent=4))
    stats = statistics() if stats is None else stats
    tag = (values | (config or {}))["embodiment_tag"]
    settings = {
        "state_horizon": 1,
        "action_horizon": 16,
        "max_state_dim": 64,
        "max_action_dim": 32,
        "language_key": "task",
        "formalize_language": False,
        "embodiment_tag": tag,
        "embodiment_mapping": {
            "new_embodiment": 31,
            "oxe_droid": 17,
            "agibot_genie1": 26,
            "gr1": 24,
            "so100": 2,
            "unitree_g1": 3,
        },
        "normalize_min_max": True,
    } | (pack or {})
    eagle = {"tokenizer_assets_repo": values["tokenizer_assets_repo"]}
    steps = [
        ("rename_observations_processor", {"rename_map": rename or {}}),
        ("to_batch_processor", {}),
        ("groot_pack_inputs_v3", settings),
        ("groot_eagle_encode_v3", eagle),
        ("groot_eagle_collate_v3", eagle),
        ("device_processor", {"device": "cuda", "float_dtype": None}),
    ]
    _write_pipeline(folder, "policy_preprocessor", steps, 2, stats)
    unpack = {"env_action_dim": ACTION_DIM, "normalize_min_max": True}
    steps = [("groot_action_unpack_unnormalize_v1", unpack), ("device_processor", {"device": "cpu"})]
    _write_pipeline(folder, "policy_postprocessor", steps, 0, stats)
    return folder


def _write_pipeline(
    folder: Path,
    name: str,
    steps: list[tuple[str, dict[str, Any]]],
    stateful: int,
    stats: dict[str, torch.Tensor],
) -> None:
    entries: list[dict[str, Any]] = [{"registry_name": step, "config": config} for step, config in steps]
    if stats:
        file = f"{name}_step_{stateful}_{steps[stateful][0]}.safetensors"
        save_file(stats, folder / file)
        entries[stateful]["state_file"] = file
    (folder / f"{name}.json").write_text(json.dumps({"name": name, "steps": entries}, indent=2))
