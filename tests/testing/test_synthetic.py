"""Oracle: the metadata's shapes and ranges, as the policy's own check of observations reads them."""

from __future__ import annotations

import numpy as np

from examples.Libero.custom_data_config import LiberoDataConfig
from gr00t.data.observation import prepare_observation
from gr00t.data.schema import DatasetMetadata
from gr00t.testing.random_checkpoint import libero_metadata
from gr00t.testing.synthetic import synthetic_observation

METADATA = DatasetMetadata.model_validate(libero_metadata())
MODALITIES = LiberoDataConfig().modality_config()


def test_the_policys_own_check_takes_it_and_the_seed_decides_it():
    one, same, other = (synthetic_observation(MODALITIES, METADATA, "go", seed) for seed in (1, 1, 2))
    prepared, batched = prepare_observation(one, MODALITIES, METADATA)
    assert not batched
    assert prepared["annotation.human.action.task_description"].tolist() == [["go"]]
    for key in ("video.image", "video.wrist_image", "state.x", "state.gripper"):
        assert np.array_equal(one[key], same[key])
        assert not np.array_equal(one[key], other[key])
    assert not any(key.startswith("action") for key in one)


def test_states_lie_within_the_training_datas_range():
    drawn = [synthetic_observation(MODALITIES, METADATA, "go", seed)["state.gripper"] for seed in range(200)]
    values = np.concatenate(drawn)
    assert values.shape == (200, 2)
    # [0, 0.04] and [-0.04, 0]: 200 uniform draws come within a tenth of either end.
    assert (values.min(axis=0) >= [0, -0.04]).all()
    assert (values.min(axis=0) < [0.004, -0.036]).all()
    assert (values.max(axis=0) > [0.036, -0.004]).all()


def test_frames_are_smooth_and_use_the_range():
    frame = synthetic_observation(MODALITIES, METADATA, "go", 0)["video.image"]
    assert (frame.shape, frame.dtype) == ((1, 256, 256, 3), np.uint8)
    steps = np.abs(np.diff(frame.astype(int), axis=1)), np.abs(np.diff(frame.astype(int), axis=2))
    # A grid point every 32 pixels: at most 255 / 31.9 = 8 a pixel, and rounding; noise makes 85 on average.
    assert max(step.max() for step in steps) <= 9
    assert frame.max() - frame.min() > 200
