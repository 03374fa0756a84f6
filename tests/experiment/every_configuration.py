"""Checkpoints for every data configuration of N1.5: the same small weights, and each one's metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gr00t.experiment.data_config import DATA_CONFIG_MAP, load_data_config
from gr00t.model.policy import Gr00tPolicy
from gr00t.testing.random_checkpoint import write_random_checkpoint

LIBERO = "examples.Libero.custom_data_config"
CONFIGURATIONS = [*DATA_CONFIG_MAP, f"{LIBERO}:LiberoDataConfig", f"{LIBERO}:LiberoDataConfigMeanStd"]

# How wide a key is by its name; of the GR1 these are the widths that N1.5's own client sends.
_WIDTHS = {
    "left_arm": 7,
    "right_arm": 7,
    "left_hand": 6,
    "right_hand": 6,
    "waist": 3,
    "neck": 3,
    "single_arm": 5,
    "left_leg": 6,
    "right_leg": 6,
    "base_position": 3,
    "left_arm_joint_position": 7,
    "right_arm_joint_position": 7,
    "robot_velocity": 2,
}


def _width(config: Any, key: str) -> tuple[int, str | None]:
    """Width and rotation type of a state or action."""
    name = key.partition(".")[2]
    targets = {**(config.state_target_rotations or {}), **(config.action_target_rotations or {})}
    if targets.get(key) == "axis_angle":
        return 3, "euler_angles_rpy"
    if key in targets:
        return 4, "quaternion"
    position = name.endswith(("_pos", "_position", "position_relative", "_delta")) and "gripper" not in name
    return _WIDTHS.get(name, 3 if position else 2 if "gripper_qpos" in name else 1), None


def metadata_for(config: Any, resolution: tuple[int, int]) -> dict[str, Any]:
    """The entry of metadata.json for one data configuration."""
    modalities: dict[str, Any] = {
        "video": {
            key.partition(".")[2]: {"resolution": list(resolution), "channels": 3, "fps": 20.0}
            for key in config.video_keys
        }
    }
    statistics: dict[str, Any] = {}
    for kind, keys in (("state", config.state_keys), ("action", config.action_keys)):
        modalities[kind], statistics[kind] = {}, {}
        for key in keys:
            width, rotation = _width(config, key)
            name = key.partition(".")[2]
            modalities[kind][name] = {
                "absolute": True,
                "rotation_type": rotation,
                "shape": [width],
                "continuous": True,
            }
            statistics[kind][name] = {
                "min": [-1.0] * width,
                "max": [2.0] * width,
                "mean": [0.5] * width,
                "std": [0.5] * width,
                "q01": [-0.9] * width,
                "q99": [1.9] * width,
            }
    return {"embodiment_tag": "new_embodiment", "modalities": modalities, "statistics": statistics}


class Policies:
    """A folder with one checkpoint, whose metadata is written anew for each configuration."""

    def __init__(self, folder: Path) -> None:
        self.folder = write_random_checkpoint(folder)

    def load(self, name: str, resolution: tuple[int, int] = (64, 48)) -> Gr00tPolicy:
        config = load_data_config(name)
        path = self.folder / "experiment_cfg" / "metadata.json"
        path.write_text(json.dumps({"new_embodiment": metadata_for(config, resolution)}))
        return Gr00tPolicy(
            self.folder,
            "new_embodiment",
            config.modality_config(),
            config.transform(),
            denoising_steps=1,
            device="cpu",
            environ={},
        )
