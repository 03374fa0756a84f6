"""Every data configuration learns a step, and gives back the actions that it was taught.

Oracles: widths by hand, scipy's Rotation, and the actions before they were normalized.
"""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from gr00t.data.observation import prepare_observation
from gr00t.data.schema import RotationType
from gr00t.data.transform import (
    ComposedModalityTransform,
    StateActionDropout,
    StateActionPerturbation,
    VideoColorJitter,
    VideoCrop,
    VideoGrayscale,
    VideoHorizontalFlip,
    VideoRandomPosterize,
    VideoRandomRotation,
    VideoResize,
)
from gr00t.data.transform.rotation import convert_rotation
from gr00t.experiment.data_config import DATA_CONFIG_MAP, StandardDataConfig, load_data_config
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.model.preprocessing.fitting import check_fit, described_keys, set_horizon_
from gr00t.training.plan import TrainingPlan
from gr00t.training.trainer import Trainer
from tests.experiment.robots_samples import RobotSamples
from tests.training.samples import bind

LIBERO = "examples.Libero.custom_data_config:LiberoDataConfig"
# Numbers of state and action as the model takes them, counted by hand from the widths in robots_samples.
WIDTHS = {
    "fourier_gr1_arms_waist": (2 * (7 + 7 + 6 + 6 + 3), 29),
    "fourier_gr1_arms_only": (2 * (7 + 7 + 6 + 6), 26),
    "fourier_gr1_full_upper_body": (32, 32),
    "bimanual_panda_gripper": (2 * (3 + 6 + 2), 2 * (3 + 3 + 1)),
    "bimanual_panda_hand": (2 * (3 + 6 + 6), 2 * (3 + 3 + 6)),
    "single_panda_gripper": (3 + 6 + 2 + 3 + 6, 3 + 3 + 1 + 4 + 1),
    "so100": (5 + 1, 5 + 1),
    "so100_dualcam": (5 + 1, 5 + 1),
    "unitree_g1": (26, 26),
    "unitree_g1_full_body": (6 + 6 + 3 + 26, 26),
    "oxe_droid": (3 + 6 + 1, 3 + 3 + 1),
    "agibot_genie1": (7 + 7 + 1 + 1 + 2 + 2, 20 + 2),
    LIBERO: (7, 7),
    f"{LIBERO}MeanStd": (7, 7),
}
EULER = {"r": "X", "p": "Y", "y": "Z"}


def learn(checkpoint: Path, config: Any) -> tuple[Trainer, RobotSamples, Any, dict[str, float]]:
    """One step on two samples: the trainer, the samples, the transform and the figures."""
    modalities, transform = config.modality_config(), config.transform()
    samples = RobotSamples(modalities)
    model = GR00T_N1_5.from_pretrained(checkpoint)
    check_fit(modalities, transform, described_keys(samples.metadata), model.config)
    set_horizon_(model, len(modalities["action"].delta_indices))
    bind(transform, checkpoint, samples.metadata)
    plan = TrainingPlan(steps=1, batch_size=2, precision="float32", parts=("projector",))
    trainer = Trainer(model, samples, transform, plan, torch.device("cpu"))
    return trainer, samples, transform, next(trainer.run())


def test_the_table_of_widths_is_complete() -> None:
    assert set(DATA_CONFIG_MAP) == set(WIDTHS) - {LIBERO, f"{LIBERO}MeanStd"}


@pytest.mark.parametrize("name", WIDTHS)
def test_every_configuration_learns_and_gives_the_actions_back(checkpoint: Path, name: str) -> None:
    _, samples, transform, figures = learn(checkpoint, load_data_config(name))
    assert 0.1 < figures["loss"] < 100
    assert figures["gradient_norm"] > 0
    batch = transform(samples.batch(np.arange(2)))
    state, action = WIDTHS[name]
    assert batch["state_mask"][0, 0].sum() == state
    assert batch["state"][..., state:].abs().max() == 0
    assert batch["action_mask"].sum() == 2 * 16 * action
    back = transform.unapply({"action": batch["action"]})
    for key, taught in samples.batch(np.arange(2)).items():
        if key.startswith("action."):
            assert np.abs(np.asarray(back[key]) - taught).max() < 2e-6, key


def by_scipy(values: np.ndarray, kind: RotationType) -> Rotation:
    if kind is RotationType.QUATERNION:
        return Rotation.from_quat(values, scalar_first=True)
    if kind is RotationType.AXIS_ANGLE:
        return Rotation.from_rotvec(values)
    if kind is RotationType.MATRIX:
        return Rotation.from_matrix(values.reshape(-1, 3, 3))
    if kind is RotationType.ROTATION_6D:
        first, second = values[:, :3], values[:, 3:]
        return Rotation.from_matrix(np.stack([first, second, np.cross(first, second)], axis=1))
    letters = "".join(EULER[letter] for letter in kind.value[-3:])  # capitals: intrinsic
    return Rotation.from_euler(letters, values)


@pytest.mark.parametrize("target", RotationType, ids=lambda kind: kind.value)
@pytest.mark.parametrize("source", RotationType, ids=lambda kind: kind.value)
def test_conversions_between_all_representations_equal_scipys(
    source: RotationType, target: RotationType
) -> None:
    rotations = Rotation.random(20, rng=np.random.default_rng(0))
    given = convert_rotation(
        torch.from_numpy(rotations.as_quat(scalar_first=True)), RotationType.QUATERNION, source
    )
    assert (by_scipy(given.numpy(), source) * rotations.inv()).magnitude().max() < 1e-9
    converted = convert_rotation(given, source, target).numpy()
    # Measured 2e-15; Euler angles lose digits near their singularity, where none of these is.
    assert (by_scipy(converted, target) * rotations.inv()).magnitude().max() < 1e-9


def test_a_rotation_in_the_state_reaches_the_model_as_the_two_first_rows_of_its_matrix(
    checkpoint: Path,
) -> None:
    _, samples, transform, _ = learn(checkpoint, load_data_config("single_panda_gripper"))
    batch = transform(samples.batch(np.arange(2)))
    given = samples.samples["state.end_effector_rotation_relative"][:, 0]
    rows = Rotation.from_quat(given, scalar_first=True).as_matrix()[:, :2].reshape(2, 6)
    # Behind three numbers of position. In float32 after the model's inputs.
    assert np.abs(batch["state"][:, 0, 3:9].numpy() - rows).max() < 1e-6


class _Moving(StandardDataConfig):
    """A configuration with other time steps than the standard ones."""

    video_keys = ("video.front", "video.wrist")
    state_keys = ("state.single_arm", "state.gripper")
    action_keys = ("action.single_arm", "action.gripper")

    def __init__(self, actions: int, observed: tuple[int, ...] = (0,)) -> None:
        self.video_keys, self.state_keys = list(type(self).video_keys), list(type(self).state_keys)
        self.action_keys = list(type(self).action_keys)
        self.action_indices, self.observation_indices = list(range(actions)), list(observed)


@pytest.mark.parametrize(("actions", "observed"), [(1, (0,)), (24, (-1, 0))])
def test_other_numbers_of_time_steps_are_learned_and_inferred(
    checkpoint: Path, tmp_path: Path, actions: int, observed: tuple[int, ...]
) -> None:
    config = _Moving(actions, observed)
    trainer, samples, transform, figures = learn(checkpoint, config)
    assert math.isfinite(figures["loss"])
    batch = transform(samples.batch(np.arange(2)))
    assert batch["action"].shape == (2, actions, 32)
    assert batch["state"].shape == (2, len(observed), 64)
    assert batch["eagle_pixel_values"].shape == (2 * 2 * len(observed), 3, 224, 224)
    trainer.model.save_pretrained(tmp_path)
    served = GR00T_N1_5.from_pretrained(tmp_path)
    assert served.config.action_horizon == actions
    transform.eval()
    observation = {key: value for key, value in samples.samples.items() if not key.startswith("action.")}
    prepared, batched = prepare_observation(observation, config.modality_config(), samples.metadata)
    assert batched
    # Of several time steps the first instruction counts, in training and here.
    assert prepared["annotation.human.action.task_description"].tolist() == [["task 0"], ["task 1"]]
    predicted = served.get_action(transform(prepared), seeds=[0, 1])["action_pred"]
    assert predicted.shape == (2, actions, 32)
    assert torch.isfinite(predicted).all()


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (0, "asks for 0 actions per chunk, at least 1 is needed"),
        (1025, "asks for 1025 actions per chunk, the checkpoint has positions for 1024"),
    ],
)
def test_chunks_that_the_checkpoint_has_no_positions_for_are_refused(
    checkpoint: Path, actions: int, message: str
) -> None:
    config = _Moving(max(actions, 1))
    modalities, transform = config.modality_config(), config.transform()
    modalities["action"].delta_indices = list(range(actions))
    transform.eval()
    described = described_keys(RobotSamples(_Moving(1).modality_config(), 1).metadata)
    with pytest.raises(ValueError, match=message):
        check_fit(modalities, transform, described, GR00T_N1_5.from_pretrained(checkpoint).config)
    transform.train()
    modalities["action"].delta_indices = [0, 1, 2]
    with pytest.raises(ValueError, match=r"asks for 3 time steps of action \(delta_indices\), its GR00T"):
        check_fit(modalities, transform, described, GR00T_N1_5.from_pretrained(checkpoint).config)


class _TooWide(StandardDataConfig):
    video_keys = ["video.front"]  # noqa: RUF012
    state_keys = ["state.left_arm", "state.left_leg", "state.left_eef_quat", "state.other_arm"]  # noqa: RUF012
    action_keys = [f"action.n{number}_arm" for number in range(5)]  # noqa: RUF012


def test_states_and_actions_that_are_too_wide_are_refused_by_key_and_width(checkpoint: Path) -> None:
    config = _TooWide()
    metadata = RobotSamples(config.modality_config(), 1).metadata
    model = GR00T_N1_5.from_pretrained(checkpoint).config
    with pytest.raises(
        ValueError, match=r"action: 35 numbers per time step, the model takes at most 32: act"
    ):
        check_fit(config.modality_config(), config.transform(), described_keys(metadata), model)
    metadata.modalities.action["n0_arm"].shape = (4,)
    check_fit(config.modality_config(), config.transform(), described_keys(metadata), model)  # 32
    # Sines and cosines of 33 numbers; a quaternion that becomes 6 numbers counts as 6.
    metadata.modalities.state["left_leg"].shape = (46,)
    config.state_target_rotations = {"state.left_eef_quat": "rotation_6d"}
    with pytest.raises(ValueError, match=r"state: 66 numbers .* at most 64: .*state.left_eef_quat 6"):
        check_fit(config.modality_config(), config.transform(), described_keys(metadata), model)
    metadata.modalities.state["left_leg"].shape = (15,)
    config.state_sin_cos = True
    with pytest.raises(ValueError, match=r"state: 66 numbers .*: state.left_arm 14, state.left_leg 30"):
        check_fit(config.modality_config(), config.transform(), described_keys(metadata), model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"rotation_type": None},
            "state.eef_rotation: target rotation 'rotation_6d', but it has no rotation_type",
        ),
        (
            {"rotation_type": RotationType.QUATERNION},
            r"rotation as quaternion has 4 numbers, its shape is \(3,\)",
        ),
        (
            {"mode": "mean_std"},
            "can only be normalized by 'min_max' and only if absolute, got mode 'mean_std'",
        ),
        ({"mode": "min_max", "absolute": False}, "only if absolute, got mode 'min_max', absolute=False"),
        (
            {"other": {"continuous": False}},
            "state.eef_position: not continuous, so its normalization mode is 'bi",
        ),
    ],
)
def test_rotations_and_modes_that_do_not_suit_a_key_are_refused_before_anything_is_read(
    checkpoint: Path, changes: dict[str, Any], message: str
) -> None:
    config = load_data_config("oxe_droid")
    modalities, transform = config.modality_config(), config.transform()
    described = described_keys(RobotSamples(modalities, 1).metadata)
    for key, values in (("eef_rotation", changes), ("eef_position", changes.get("other", {}))):
        for name, value in values.items():
            if name in ("rotation_type", "absolute", "continuous"):
                setattr(described[f"state.{key}"], name, value)
    if "mode" in changes:
        transform.transforms[6].normalization_modes["state.eef_rotation"] = changes["mode"]
    with pytest.raises(ValueError, match=message):
        check_fit(modalities, transform, described, GR00T_N1_5.from_pretrained(checkpoint).config)


class _Bytes(_Moving):
    """Frames that stay bytes, as albumentations has them, and random changes of all kinds."""

    def transform(self) -> ComposedModalityTransform:
        standard = super().transform().transforms
        cameras = {"apply_to": self.video_keys, "backend": "albumentations"}
        return ComposedModalityTransform(
            transforms=[
                VideoCrop(scale=0.9, **cameras),
                VideoResize(height=224, width=224, interpolation="area", **cameras),
                VideoRandomRotation(degrees=5, interpolation="cubic", **cameras),
                VideoHorizontalFlip(p=0.5, **cameras),
                VideoRandomPosterize(bits=4, p=0.5, **cameras),
                VideoGrayscale(p=0.5, **cameras),
                VideoColorJitter(brightness=0.3, contrast=0.4, saturation=0.5, hue=0.08, **cameras),
                *standard[5:7],
                StateActionPerturbation(apply_to=self.state_keys, std=0.1),
                StateActionDropout(apply_to=self.state_keys, dropout_prob=0.5),
                *standard[7:],
            ]
        )


def test_a_pipeline_of_every_random_transform_learns_and_infers_without_any(checkpoint: Path) -> None:
    _, samples, transform, figures = learn(checkpoint, _Bytes(4))
    assert math.isfinite(figures["loss"])
    copied = copy.deepcopy(transform)
    copied.eval()
    before = torch.get_rng_state()
    first, second = (copied(samples.batch(np.arange(2))) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first["eagle_pixel_values"], second["eagle_pixel_values"])
    # The resize is OpenCV's mean over areas: 48x64 pixels cropped to 43x57, at (2, 3).
    crop = samples.samples["video.front"][0, 0, 2:45, 3:60].astype(np.float64)
    seen = first["eagle_pixel_values"][0].numpy() * 127.5 + 127.5
    # Enlarging takes means of neighbours, which keeps the mean of a smooth picture. Measured 0.003 levels.
    assert np.abs(seen.mean(axis=(1, 2)) - crop.mean(axis=(0, 1))).max() < 0.1
    transform.train()
    assert not torch.equal(
        transform(samples.batch(np.arange(2)))["eagle_pixel_values"], first["eagle_pixel_values"]
    )
