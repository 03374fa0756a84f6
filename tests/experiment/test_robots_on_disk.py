"""Data sets with rotations, as their modality.json describes them, through reader, transform and a step.

Oracles: the numbers as they were written, scipy's Rotation, and the widths that are counted in test_robots.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from gr00t.data.embodiment_tags import EmbodimentTag
from gr00t.data.lerobot.dataset import LeRobotDataset
from gr00t.data.lerobot.writer import Demonstration, LeRobotWriter
from gr00t.experiment.data_config import load_data_config
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.model.preprocessing.fitting import check_fit
from gr00t.training.plan import TrainingPlan
from gr00t.training.trainer import Trainer
from tests.experiment.robots_samples import width_of
from tests.experiment.test_robots import WIDTHS
from tests.training.samples import bind

ROWS = 6


def written(folder: Path, config: Any) -> dict[str, np.ndarray]:
    """Write one episode of a robot; return its numbers by key, (ROWS, A)."""
    rng = np.random.default_rng(0)
    modality: dict[str, Any] = {
        "video": {
            key.removeprefix("video."): {"original_key": key.replace("video", "observation.images")}
            for key in config.video_keys
        },
        "annotation": {config.language_keys[0].removeprefix("annotation."): {"original_key": "task_index"}},
    }
    numbers: dict[str, np.ndarray] = {}
    vectors = {}
    for kind, keys in (("state", config.state_keys), ("action", config.action_keys)):
        modality[kind], end = {}, 0
        for key in keys:
            width, rotation = width_of(key)
            start, end = end, end + width
            modality[kind][key.partition(".")[2]] = {
                **{"start": start, "end": end, "absolute": "delta" not in key},
                **({"rotation_type": rotation} if rotation else {}),
            }
            numbers[key] = rng.uniform(-1, 1, (ROWS, width)).astype(np.float32)
        vectors[kind] = np.concatenate([numbers[key] for key in keys], axis=1)
    frames = np.zeros((ROWS, 48, 64, 3), dtype=np.uint8)
    cameras = {key.removeprefix("video."): frames for key in config.video_keys}
    LeRobotWriter(folder, modality, fps=20).add(
        Demonstration("go", vectors["state"], vectors["action"], cameras, {})
    )
    return numbers


@pytest.mark.parametrize(
    "name", ["oxe_droid", "bimanual_panda_gripper", "bimanual_panda_hand", "single_panda_gripper"]
)
def test_a_set_with_rotations_is_learned_from_as_it_lies_on_disk(
    checkpoint: Path, tmp_path: Path, name: str
) -> None:
    config = load_data_config(name)
    numbers = written(tmp_path / "set", config)
    modalities, transform = config.modality_config(), config.transform()
    samples = LeRobotDataset(tmp_path / "set", modalities, tmp_path / "cache")
    columns = samples.layout.modality.columns
    model = GR00T_N1_5.from_pretrained(checkpoint)
    check_fit(modalities, transform, {key: one.described() for key, one in columns.items()}, model.config)
    metadata = samples.metadata(EmbodimentTag.NEW_EMBODIMENT)
    changes = {key for key, entry in metadata.modalities.action.items() if not entry.absolute}
    assert changes == ({"eef_position_delta", "eef_rotation_delta"} if name == "oxe_droid" else set())
    bind(transform, checkpoint, metadata)
    plan = TrainingPlan(steps=1, batch_size=2, precision="float32", parts=("projector",))
    figures = next(Trainer(model, samples, transform, plan, torch.device("cpu")).run())
    assert 0.1 < figures["loss"] < 100

    batch = transform(samples.batch([0, 3]))
    state, action = WIDTHS[name]
    assert batch["state_mask"][0, 0].sum() == state
    assert batch["action_mask"][0, 0].sum() == action
    at = 0
    for key in config.state_keys:
        width, rotation = width_of(key)
        if rotation is None:
            at += width
            continue
        given = numbers[key][[0, 3]]
        turned = (
            Rotation.from_quat(given, scalar_first=True)
            if rotation == "quaternion"
            else Rotation.from_euler("XYZ", given)
        )
        rows = turned.as_matrix()[:, :2].reshape(2, 6)
        assert np.abs(batch["state"][:, 0, at : at + 6].numpy() - rows).max() < 1e-6, key
        at += 6
    back = transform.unapply({"action": batch["action"]})
    for key in config.action_keys:
        if (config.action_normalization_modes or {}).get(key) != "binary":
            # The chunk of row 3 ends with the episode: absolute actions repeat the last one, changes are 0.
            tail = numbers[key][-1] if "delta" not in key else np.zeros_like(numbers[key][-1])
            wanted = np.concatenate([numbers[key][3:], np.broadcast_to(tail, (13, len(tail)))])
            assert np.abs(np.asarray(back[key][1]) - wanted).max() < 3e-6, key
