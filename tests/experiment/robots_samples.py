"""Invented metadata and samples of the shape that each of N1.5's data configurations has on its robot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from gr00t.data.dataset import ModalityConfig
from gr00t.data.embodiment_tags import EmbodimentTag
from gr00t.data.schema import DatasetMetadata, RotationType
from gr00t.data.transform.rotation import convert_rotation
from gr00t.testing.synthetic import synthetic_observation

# What a key's name ends with -> its width, and how a rotation is written down.
WIDTHS: dict[str, tuple[int, str | None]] = {
    "_arm": (7, None),
    "single_arm": (5, None),
    "_hand": (6, None),
    "_leg": (6, None),
    "waist": (3, None),
    "neck": (3, None),
    "gripper": (1, None),
    "_eef_pos": (3, None),
    "_eef_quat": (4, "quaternion"),
    "_eef_rot": (3, "axis_angle"),
    "_gripper_qpos": (2, None),
    "gripper_close": (1, None),
    "eef_position": (3, None),
    "eef_position_delta": (3, None),
    "state.eef_rotation": (3, "euler_angles_rpy"),
    "eef_rotation_delta": (3, "euler_angles_rpy"),
    "gripper_position": (1, None),
    "end_effector_position_relative": (3, None),
    "end_effector_rotation_relative": (4, "quaternion"),
    "end_effector_position": (3, None),
    "end_effector_rotation": (3, "axis_angle"),
    "gripper_qpos": (2, None),
    "base_position": (3, None),
    "base_rotation": (4, "quaternion"),
    "base_motion": (4, None),
    "control_mode": (1, None),
    "arm_joint_position": (7, None),
    "effector_position": (1, None),
    "head_position": (2, None),
    "waist_position": (2, None),
    "robot_velocity": (2, None),
    # LIBERO
    **{f".{name}": (1, None) for name in ("x", "y", "z", "roll", "pitch", "yaw")},
    "state.gripper": (1, None),
}


def width_of(key: str) -> tuple[int, str | None]:
    """By the longest ending that is known."""
    return WIDTHS[max((ending for ending in WIDTHS if key.endswith(ending)), key=len)]


def robot_metadata(modalities: Mapping[str, ModalityConfig]) -> DatasetMetadata:
    """Every number between -1 and 1 in training; cameras of 64x48 pixels."""
    tables: dict[str, Any] = {"state": {}, "action": {}}
    statistics: dict[str, Any] = {"state": {}, "action": {}}
    for kind in tables:
        for key in modalities[kind].modality_keys:
            width, rotation = width_of(key)
            name = key.partition(".")[2]
            tables[kind][name] = {
                "absolute": "delta" not in key,
                "rotation_type": rotation,
                "shape": [width],
                "continuous": True,
            }
            bounds = {"min": -1.0, "max": 1.0, "mean": 0.0, "std": 0.5, "q01": -0.9, "q99": 0.9}
            statistics[kind][name] = {bound: [value] * width for bound, value in bounds.items()}
    camera = {"resolution": [64, 48], "channels": 3, "fps": 20}
    video = {key.partition(".")[2]: camera for key in modalities["video"].modality_keys}
    return DatasetMetadata.model_validate(
        {
            "statistics": statistics,
            "modalities": {"video": video, **tables},
            "embodiment_tag": EmbodimentTag.NEW_EMBODIMENT,
        }
    )


class RobotSamples:
    """`count` random observations of a robot, each with a chunk of random actions."""

    def __init__(self, modalities: Mapping[str, ModalityConfig], count: int = 2) -> None:
        self.metadata = robot_metadata(modalities)
        rng = np.random.default_rng(0)
        texts = modalities["language"]
        samples = []
        for seed in range(count):
            sample = synthetic_observation(modalities, self.metadata, f"task {seed}", seed)
            for key in texts.modality_keys:
                sample[key] = np.full(len(texts.delta_indices), f"task {seed}")
            for key in modalities["action"].modality_keys:
                width, rotation = width_of(key)
                steps = len(modalities["action"].delta_indices)
                value = rng.uniform(-0.9, 0.9, (steps, width))
                if rotation is not None:  # the numbers that a conversion there and back gives
                    kind = RotationType(rotation)
                    value = convert_rotation(torch.from_numpy(value), kind, kind).numpy()
                if key.endswith(("gripper_close", "control_mode")) or key == "action.gripper_position":
                    value = (value > 0).astype(np.float64)
                sample[key] = value.astype(np.float32)
            samples.append(sample)
        self.samples = {key: np.stack([sample[key] for sample in samples]) for key in samples[0]}

    def __len__(self) -> int:
        return len(next(iter(self.samples.values())))

    def draw(self, generator: np.random.Generator, count: int) -> np.ndarray:
        return generator.integers(0, len(self), count)

    def batch(self, steps: np.ndarray) -> dict[str, Any]:
        return {key: value[steps] for key, value in self.samples.items()}
