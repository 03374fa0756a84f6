"""An observation to try a server with: every key that it needs, in its shape, and nothing to see."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gr00t.data.embodiment_tags import EmbodimentTag
from gr00t.data.schema import (
    DatasetMetadata,
    RotationType,
    StateActionMetadata,
    VideoMetadata,
    load_metadata,
)

INSTRUCTION = "pick up the object and place it in the basket"


class ExampleError(ValueError):
    """Nothing tells how an observation has to look."""


def describe_observation(config: Mapping[str, Any], metadata: DatasetMetadata) -> dict[str, Any]:
    """Return what a server tells of the observations that it takes, as plain data.

    Returns:
        `video`: the shape per camera; `state`: per key numbers that a state may have, as lists (S, A);
        `instruction`: the key of the instruction, or None.
    """
    modalities = metadata.modalities
    states = {f"state.{name}": _rest(state) for name, state in modalities.state.items()}
    return _describe(config, states, {f"video.{name}": video for name, video in modalities.video.items()})


def example_of(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return an observation as described: grey frames, a state at rest, a short text."""
    observation: dict[str, Any] = {
        **{key: np.full(shape, 128, np.uint8) for key, shape in description["video"].items()},
        **{key: np.array(numbers, np.float64) for key, numbers in description["state"].items()},
    }
    if description["instruction"] is not None:
        observation[description["instruction"]] = [INSTRUCTION]
    return observation


def describe_locally(data_config: Any, model_path: str | None, embodiment_tag: str) -> dict[str, Any]:
    """Return what `describe_observation` does, from what is known without asking a server.

    That is the metadata of the checkpoint folder, or the modality.json beside the data configuration's own
    file, where Isaac-GR00T's examples have it; with the latter frames are 256 x 256.

    Raises:
        ExampleError: nothing tells how wide the states are.
    """
    config = data_config.modality_config()
    if model_path is not None:
        path = Path(model_path, "experiment_cfg", "metadata.json")
        return describe_observation(config, load_metadata(path, EmbodimentTag(embodiment_tag)))
    states: dict[str, list[float]] = {}
    beside = Path(inspect.getfile(type(data_config))).with_name("modality.json")
    if beside.is_file():
        spans = json.loads(beside.read_text(encoding="utf-8"))["state"]
        states = {f"state.{name}": [0.0] * (span["end"] - span["start"]) for name, span in spans.items()}
    return _describe(config, states, {})


def _describe(
    config: Mapping[str, Any], states: Mapping[str, list[float]], videos: Mapping[str, VideoMetadata]
) -> dict[str, Any]:
    shapes, numbers = {}, {}
    for key in config["video"].modality_keys:
        width, height = videos[key].resolution if key in videos else (256, 256)
        channels = videos[key].channels if key in videos else 3
        shapes[key] = [len(config["video"].delta_indices), height, width, channels]
    for key in config["state"].modality_keys if "state" in config else []:
        if key not in states:
            raise ExampleError(
                f"nothing tells how wide {key} is; name a checkpoint folder of this robot with --model-path"
            )
        numbers[key] = [states[key]] * len(config["state"].delta_indices)
    keys = config["language"].modality_keys if "language" in config else []
    return {"video": shapes, "state": numbers, "instruction": next(iter(keys), None)}


def _rest(state: StateActionMetadata) -> list[float]:
    """Return numbers that the state may have: zeros, or where they make no rotation, that of no turn."""
    ones: dict[RotationType | None, tuple[int, ...]] = {
        RotationType.QUATERNION: (0,),
        RotationType.ROTATION_6D: (0, 4),
        RotationType.MATRIX: (0, 4, 8),
    }
    return [1.0 if place in ones.get(state.rotation_type, ()) else 0.0 for place in range(state.shape[0])]
