"""Data configurations by name and of users. Oracle: N1.5's names, signatures and import paths."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from gr00t.data.dataset import ModalityConfig
from gr00t.experiment.data_config import DATA_CONFIG_MAP, DataConfigError, load_data_config
from tests.data.recorded import INSTRUCTION, Recorded

N1_5_NAMES = [
    "agibot_genie1",
    "bimanual_panda_gripper",
    "bimanual_panda_hand",
    "fourier_gr1_arms_only",
    "fourier_gr1_arms_waist",
    "fourier_gr1_full_upper_body",
    "oxe_droid",
    "single_panda_gripper",
    "so100",
    "so100_dualcam",
    "unitree_g1",
    "unitree_g1_full_body",
]

# Written as users of N1.5 write theirs: its import paths, its constructor arguments, no base class method
# overridden.
USER_MODULE = textwrap.dedent(
    """
    from gr00t.data.dataset import ModalityConfig
    from gr00t.data.transform.base import ComposedModalityTransform, ModalityTransform
    from gr00t.data.transform.concat import ConcatTransform
    from gr00t.data.transform.state_action import (
        StateActionSinCosTransform,
        StateActionToTensor,
        StateActionTransform,
    )
    from gr00t.data.transform.video import (
        VideoColorJitter, VideoCrop, VideoResize, VideoToNumpy, VideoToTensor
    )
    from gr00t.experiment.data_config import BaseDataConfig, So100DataConfig
    from gr00t.model.preprocessing.gr00t_transform import GR00TTransform

    class ArmConfig(BaseDataConfig):
        video_keys = ["video.image", "video.wrist_image"]
        state_keys = ["state.x", "state.gripper"]
        action_keys = ["action.x", "action.gripper"]
        language_keys = ["annotation.human.action.task_description"]
        observation_indices = [0]
        action_indices = list(range(16))

        def modality_config(self) -> dict[str, ModalityConfig]:
            return {
                name: ModalityConfig(delta_indices=steps, modality_keys=keys)
                for name, steps, keys in [
                    ("video", self.observation_indices, self.video_keys),
                    ("state", self.observation_indices, self.state_keys),
                    ("action", self.action_indices, self.action_keys),
                    ("language", self.observation_indices, self.language_keys),
                ]
            }

        def transform(self) -> ModalityTransform:
            return ComposedModalityTransform(transforms=[
                VideoToTensor(apply_to=self.video_keys),
                VideoCrop(apply_to=self.video_keys, scale=0.95),
                VideoResize(apply_to=self.video_keys, height=224, width=224, interpolation="linear"),
                VideoColorJitter(
                    apply_to=self.video_keys, brightness=0.3, contrast=0.4, saturation=0.5, hue=0.08
                ),
                VideoToNumpy(apply_to=self.video_keys),
                StateActionToTensor(apply_to=self.state_keys),
                StateActionSinCosTransform(apply_to=self.state_keys),
                StateActionToTensor(apply_to=self.action_keys),
                StateActionTransform(
                    apply_to=self.action_keys,
                    normalization_modes={"action.x": "q99", "action.gripper": "binary"},
                ),
                ConcatTransform(
                    video_concat_order=self.video_keys,
                    state_concat_order=self.state_keys,
                    action_concat_order=self.action_keys,
                ),
                GR00TTransform(
                    state_horizon=len(self.observation_indices),
                    action_horizon=len(self.action_indices),
                    max_state_dim=64,
                    max_action_dim=32,
                ),
            ])

    class MyArm(So100DataConfig):
        video_keys = ["video.image"]
    """
)


@pytest.fixture
def user_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in sys.modules if name.startswith("my_robot")]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "my_robot_config.py").write_text(USER_MODULE)
    return tmp_path


def test_registered_names_are_those_of_n1_5() -> None:
    assert sorted(DATA_CONFIG_MAP) == N1_5_NAMES


@pytest.mark.parametrize("name", N1_5_NAMES)
def test_every_registered_config_is_complete(name: str) -> None:
    config = load_data_config(name)
    modalities = config.modality_config()
    assert modalities["action"].delta_indices == list(range(16))
    steps = config.transform().transforms
    assert steps[-2].video_concat_order == modalities["video"].modality_keys
    assert steps[-2].state_concat_order == modalities["state"].modality_keys
    normalized = set(steps[8].normalization_modes) | set(steps[8].target_rotations)
    assert normalized <= set(modalities["action"].modality_keys)


def test_modality_config_has_the_reference_json(recorded: Recorded) -> None:
    # Oracle: the recorded answer to get_modality_config, character for character.
    config = load_data_config("examples.Libero.custom_data_config:LiberoDataConfig").modality_config()
    assert config["video"].model_dump_json() == (
        '{"delta_indices":[0],"modality_keys":["video.image","video.wrist_image"]}'
    )
    assert list(config) == ["video", "state", "action", "language"]
    assert ModalityConfig.model_validate_json(config["language"].model_dump_json()) == config["language"]


@pytest.mark.parametrize(
    ("kind", "modes"),
    [
        ("LiberoDataConfig", ["min_max"] * 7),
        ("LiberoDataConfigMeanStd", ["mean_std"] * 6 + ["min_max"]),
    ],
)
def test_libero_normalization(kind: str, modes: list[str]) -> None:
    steps = load_data_config(f"examples.Libero.custom_data_config:{kind}").transform().transforms
    assert list(steps[8].normalization_modes.values()) == modes
    assert list(steps[6].normalization_modes.values()) == ["min_max"] * 7


def test_libero_modality_json_has_the_keys_and_widths_of_the_config(repo: Path, recorded: Recorded) -> None:
    modality = json.loads((repo / "examples/Libero/modality.json").read_text())
    metadata = recorded.metadata()
    config = load_data_config("examples.Libero.custom_data_config:LiberoDataConfig").modality_config()
    for kind in ("state", "action"):
        assert [f"{kind}.{name}" for name in modality[kind]] == config[kind].modality_keys
        for name, span in modality[kind].items():
            assert (span["end"] - span["start"],) == getattr(metadata.modalities, kind)[name].shape
    assert [f"video.{name}" for name in modality["video"]] == config["video"].modality_keys


def test_a_users_module_from_n1_5_works_unchanged(user_folder: Path, recorded: Recorded) -> None:
    config = load_data_config("my_robot_config:ArmConfig")
    pipeline = config.transform()
    pipeline.eval()
    pipeline.set_metadata(recorded.metadata())
    tokenizer = recorded.tokenizer()
    pipeline.transforms[-1].bind(
        tokenizer, image_size=224, tokens_per_image=256, image_token_index=151669, vocab_size=151680
    )
    observation = recorded.single(0)
    inputs = pipeline(
        {key: observation[key] for key in [*config.video_keys, *config.state_keys, INSTRUCTION]}
    )
    angles = np.concatenate([observation["state.x"], observation["state.gripper"]], axis=1)[0]
    want = [np.sin(angles[0]), np.cos(angles[0]), *np.sin(angles[1:]), *np.cos(angles[1:])]
    np.testing.assert_allclose(inputs["state"][0, 0, :6], want, atol=1e-15)
    assert inputs["state_mask"].sum() == 6
    assert load_data_config("my_robot_config:MyArm").modality_config()["video"].modality_keys == [
        "video.image"
    ]


def test_module_is_found_beside_the_package_from_any_folder(repo: Path, tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(repo)!r}); import gr00t; sys.path.pop(0);"
        "from gr00t.experiment.data_config import load_data_config as load;"
        "print(type(load('examples.Libero.custom_data_config:LiberoDataConfig')).__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "LiberoDataConfig"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("so10", "data config 'so10': not registered; did you mean so100?"),
        (
            "examples.Libero.custom_data_confg:LiberoDataConfig",
            "did you mean examples.Libero.custom_data_config?",
        ),
        ("examples.Libro.custom_data_config:X", "no module 'examples.Libro'; did you mean examples.Libero?"),
        ("my_robot_confg:ArmConfig", "no module 'my_robot_confg'; did you mean my_robot_config?"),
        (
            "examples.Libero.custom_data_config:LiberoDataConfg",
            "no 'LiberoDataConfg'; did you mean LiberoDataConfig?",
        ),
        ("my_robot_config:np", "module my_robot_config has no 'np'; known: ArmConfig, BaseDataConfig, MyArm"),
        ("json:loads", "loads has no modality_config.* and transform"),
        ("my_robot_needs:X", "module my_robot_needs imports 'torchvision_not_there', which is not installed"),
        ("my_robot_old:X", "module my_robot_old cannot be imported: cannot import name 'Gone'"),
    ],
)
def test_a_name_that_is_not_there_gets_the_nearest(user_folder: Path, name: str, message: str) -> None:
    (user_folder / "my_robot_needs.py").write_text("import torchvision_not_there\n")
    (user_folder / "my_robot_old.py").write_text("from gr00t.data.dataset import Gone\n")
    with pytest.raises(DataConfigError, match=message):
        load_data_config(name)
    assert str(user_folder) not in sys.path


def test_a_transform_never_applied_to_metadata_says_so() -> None:
    pipeline = load_data_config("so100").transform()
    with pytest.raises(RuntimeError, match="call set_metadata"):
        _ = pipeline.dataset_metadata


def test_where_there_is_no_module_at_all_none_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataConfigError, match=r"no module 'my_robot'; known: none$"):
        load_data_config("my_robot:ArmConfig")
