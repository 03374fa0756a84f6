"""A few invented demonstrations, in memory: what a trainer needs of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from examples.Libero.custom_data_config import LiberoDataConfig
from gr00t.data.embodiment_tags import EmbodimentTag
from gr00t.data.schema import load_metadata
from gr00t.data.transform.base import ComposedModalityTransform
from gr00t.model.checkpoint.config import Gr00tConfig
from gr00t.model.preprocessing.tokenizer import resolve_tokenizer
from gr00t.model.preprocessing.transform_setup import bind_to_model
from gr00t.testing.synthetic import synthetic_observation

TAG = EmbodimentTag.NEW_EMBODIMENT


class InventedSamples:
    """`count` random observations, each with a smooth chunk of actions."""

    def __init__(self, checkpoint: Path, count: int) -> None:
        config = LiberoDataConfig()
        self.metadata = load_metadata(checkpoint / "experiment_cfg" / "metadata.json", TAG)
        self._observations = [
            synthetic_observation(config.modality_config(), self.metadata, f"task {index}", index)
            for index in range(count)
        ]
        rng = np.random.default_rng(0)
        slope = rng.uniform(-0.5, 0.5, (count, 1, 7))
        self._actions = slope * np.linspace(0.2, 1.0, 16)[None, :, None]

    def __len__(self) -> int:
        return len(self._observations)

    def draw(self, generator: np.random.Generator, count: int) -> np.ndarray:
        return generator.integers(0, len(self), count)

    def batch(self, steps: np.ndarray) -> dict[str, Any]:
        chosen = [self._observations[int(step)] for step in steps]
        samples: dict[str, Any] = {}
        for key in chosen[0]:
            values = [np.asarray(observation[key]) for observation in chosen]
            samples[key] = np.stack(values)
        keys = LiberoDataConfig.action_keys
        for column, key in enumerate(keys):
            samples[key] = self._actions[steps][:, :, column : column + 1].astype(np.float32)
        return samples


def bound_transform(checkpoint: Path, metadata: Any) -> ComposedModalityTransform:
    transform = LiberoDataConfig().transform()
    assert isinstance(transform, ComposedModalityTransform)
    return bind(transform, checkpoint, metadata)


def bind(transform: ComposedModalityTransform, checkpoint: Path, metadata: Any) -> ComposedModalityTransform:
    transform.set_metadata(metadata)
    bind_to_model(
        transform, Gr00tConfig.from_folder(checkpoint), resolve_tokenizer(checkpoint, None), TAG, "brackets"
    )
    return transform
