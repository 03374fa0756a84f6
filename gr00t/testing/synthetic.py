"""Random observations with the shapes and ranges of a checkpoint's metadata: to try programs, not policies.

No robot ever saw them. A policy answers them as it would answer noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from gr00t.data.dataset import ModalityConfig
from gr00t.data.schema import DatasetMetadata, RotationType
from gr00t.data.transform.rotation import convert_rotation

# Any three angles, or an axis times an angle, are a rotation; these numbers depend on each other.
_TOGETHER = (RotationType.QUATERNION, RotationType.ROTATION_6D, RotationType.MATRIX)
# Corners of the grid that a frame is blended from: few, so that neighbouring pixels are alike.
_GRID = 9


def synthetic_observation(
    modalities: Mapping[str, ModalityConfig], metadata: DatasetMetadata, instruction: str, seed: int
) -> dict[str, Any]:
    """Return a random observation; the same arguments give the same one.

    Args:
        modalities: the keys and the number of time steps that the policy needs.
        metadata: their shapes, and the range of the states: uniform within [min, max] of the training data.
            Numbers that make a rotation only together are those of a random one.
        instruction: the text.
        seed: at least 0.

    Raises:
        MetadataError: the metadata does not have a key.
    """
    rng = np.random.default_rng(seed)
    observation: dict[str, Any] = {}
    for kind, config in modalities.items():
        steps = len(config.delta_indices)
        for key in config.modality_keys:
            if kind == "video":
                width, height = metadata.entry(metadata.modalities, key).resolution
                observation[key] = np.stack([_smooth_image(rng, height, width) for _ in range(steps)])
            elif kind == "state":
                known = metadata.entry(metadata.statistics, key)
                rotation = metadata.entry(metadata.modalities, key).rotation_type
                if rotation in _TOGETHER:
                    observation[key] = _rotations(rng, rotation, steps)
                else:
                    observation[key] = rng.uniform(known.min, known.max, (steps, len(known.min)))
            elif kind == "language":
                observation[key] = [instruction]
    return observation


def _rotations(rng: np.random.Generator, rotation: RotationType, steps: int) -> np.ndarray:
    """Random rotations (steps, width), every one as likely as another."""
    quaternions = torch.from_numpy(rng.normal(size=(steps, 4)))
    return convert_rotation(quaternions, RotationType.QUATERNION, rotation).numpy()


def _smooth_image(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A random grid of colours, blended linearly: (height, width, 3) uint8."""
    grid = rng.uniform(0, 255, (_GRID, _GRID, 3))
    return (
        (_blend(height) @ np.einsum("wg,hgc->chw", _blend(width), grid)).transpose(1, 2, 0).astype(np.uint8)
    )


def _blend(size: int) -> np.ndarray:
    """Weights (size, _GRID) of linear interpolation between grid points."""
    at = np.linspace(0, _GRID - 1, size)
    return np.maximum(0.0, 1.0 - np.abs(at[:, None] - np.arange(_GRID)))
