"""The data configurations of Isaac-GR00T N1.5 under their names.

They differ in keys, normalization and rotation targets only.
"""

from __future__ import annotations

from typing import ClassVar

from gr00t.experiment.base_config import BaseDataConfig, StandardDataConfig


def _keys(modality: str, names: str) -> list[str]:
    return [f"{modality}.{name}" for name in names.split()]


class FourierGr1ArmsOnlyDataConfig(StandardDataConfig):
    """Fourier GR1, arms and hands; states as sines and cosines."""

    video_keys = _keys("video", "ego_view")
    state_keys = _keys("state", "left_arm right_arm left_hand right_hand")
    action_keys = _keys("action", "left_arm right_arm left_hand right_hand")
    state_sin_cos = True


class FourierGr1ArmsWaistDataConfig(FourierGr1ArmsOnlyDataConfig):
    """Fourier GR1, arms, hands and waist."""

    state_keys = _keys("state", "left_arm right_arm left_hand right_hand waist")
    action_keys = _keys("action", "left_arm right_arm left_hand right_hand waist")
    language_keys: ClassVar[list[str]] = ["annotation.human.coarse_action"]


class FourierGr1FullUpperBodyDataConfig(StandardDataConfig):
    """Fourier GR1, upper body with neck."""

    video_keys = _keys("video", "front_view")
    state_keys = _keys("state", "left_arm right_arm left_hand right_hand waist neck")
    action_keys = _keys("action", "left_arm right_arm left_hand right_hand waist neck")


class So100DataConfig(StandardDataConfig):
    """SO-100 arm with one camera."""

    video_keys = _keys("video", "webcam")
    state_keys = _keys("state", "single_arm gripper")
    action_keys = _keys("action", "single_arm gripper")
    language_keys: ClassVar[list[str]] = ["annotation.human.task_description"]


class So100DualCamDataConfig(So100DataConfig):
    """SO-100 arm with a camera in front and one at the wrist."""

    video_keys = _keys("video", "front wrist")


class UnitreeG1DataConfig(StandardDataConfig):
    """Unitree G1, arms and hands."""

    video_keys = _keys("video", "rs_view")
    state_keys = _keys("state", "left_arm right_arm left_hand right_hand")
    action_keys = _keys("action", "left_arm right_arm left_hand right_hand")
    language_keys: ClassVar[list[str]] = ["annotation.human.task_description"]


class UnitreeG1FullBodyDataConfig(UnitreeG1DataConfig):
    """Unitree G1, the whole body observed, arms and hands moved."""

    state_keys = _keys("state", "left_leg right_leg waist left_arm right_arm left_hand right_hand")


class BimanualPandaGripperDataConfig(StandardDataConfig):
    """Two Panda arms with grippers."""

    video_keys = _keys("video", "right_wrist_view left_wrist_view front_view")
    state_keys = _keys(
        "state",
        "right_arm_eef_pos right_arm_eef_quat right_gripper_qpos "
        "left_arm_eef_pos left_arm_eef_quat left_gripper_qpos",
    )
    action_keys = _keys(
        "action",
        "right_arm_eef_pos right_arm_eef_rot right_gripper_close "
        "left_arm_eef_pos left_arm_eef_rot left_gripper_close",
    )
    state_normalization_modes = dict.fromkeys(
        _keys("state", "right_arm_eef_pos right_gripper_qpos left_arm_eef_pos left_gripper_qpos"), "min_max"
    )
    state_target_rotations = dict.fromkeys(
        _keys("state", "right_arm_eef_quat left_arm_eef_quat"), "rotation_6d"
    )
    action_normalization_modes = dict.fromkeys(
        _keys("action", "right_gripper_close left_gripper_close"), "binary"
    )


class BimanualPandaHandDataConfig(BimanualPandaGripperDataConfig):
    """Two Panda arms with hands."""

    video_keys = _keys("video", "right_wrist_view left_wrist_view ego_view")
    state_keys = _keys(
        "state",
        "right_arm_eef_pos right_arm_eef_quat right_hand left_arm_eef_pos left_arm_eef_quat left_hand",
    )
    action_keys = _keys(
        "action", "right_arm_eef_pos right_arm_eef_rot right_hand left_arm_eef_pos left_arm_eef_rot left_hand"
    )
    state_normalization_modes = dict.fromkeys(
        _keys("state", "right_arm_eef_pos right_hand left_arm_eef_pos left_hand"), "min_max"
    )
    action_normalization_modes = dict.fromkeys(_keys("action", "right_hand left_hand"), "min_max")


class SinglePandaGripperDataConfig(StandardDataConfig):
    """One Panda arm on a mobile base."""

    video_keys = _keys("video", "left_view right_view wrist_view")
    state_keys = _keys(
        "state",
        "end_effector_position_relative end_effector_rotation_relative gripper_qpos "
        "base_position base_rotation",
    )
    action_keys = _keys(
        "action", "end_effector_position end_effector_rotation gripper_close base_motion control_mode"
    )
    state_target_rotations = dict.fromkeys(
        _keys("state", "end_effector_rotation_relative base_rotation"), "rotation_6d"
    )
    action_normalization_modes: ClassVar[dict[str, str] | None] = {
        **dict.fromkeys(
            _keys("action", "end_effector_position end_effector_rotation base_motion"), "min_max"
        ),
        **dict.fromkeys(_keys("action", "gripper_close control_mode"), "binary"),
    }


class OxeDroidDataConfig(StandardDataConfig):
    """DROID of Open X-Embodiment."""

    video_keys = _keys("video", "exterior_image_1 exterior_image_2 wrist_image")
    state_keys = _keys("state", "eef_position eef_rotation gripper_position")
    action_keys = _keys("action", "eef_position_delta eef_rotation_delta gripper_position")
    language_keys: ClassVar[list[str]] = ["annotation.language.language_instruction"]
    state_normalization_modes = dict.fromkeys(_keys("state", "eef_position gripper_position"), "min_max")
    state_target_rotations = dict.fromkeys(_keys("state", "eef_rotation"), "rotation_6d")
    action_normalization_modes = dict.fromkeys(_keys("action", "gripper_position"), "binary")
    action_target_rotations = dict.fromkeys(_keys("action", "eef_rotation_delta"), "axis_angle")


class AgibotGenie1DataConfig(StandardDataConfig):
    """AgiBot Genie-1 with grippers."""

    _BODY = (
        "left_arm_joint_position right_arm_joint_position left_effector_position right_effector_position "
        "head_position waist_position"
    )
    video_keys = _keys("video", "top_head hand_left hand_right")
    state_keys = _keys("state", _BODY)
    action_keys = _keys("action", f"{_BODY} robot_velocity")
    language_keys: ClassVar[list[str]] = ["annotation.language.action_text"]


DATA_CONFIG_MAP: dict[str, BaseDataConfig] = {
    "fourier_gr1_arms_waist": FourierGr1ArmsWaistDataConfig(),
    "fourier_gr1_arms_only": FourierGr1ArmsOnlyDataConfig(),
    "fourier_gr1_full_upper_body": FourierGr1FullUpperBodyDataConfig(),
    "bimanual_panda_gripper": BimanualPandaGripperDataConfig(),
    "bimanual_panda_hand": BimanualPandaHandDataConfig(),
    "single_panda_gripper": SinglePandaGripperDataConfig(),
    "so100": So100DataConfig(),
    "so100_dualcam": So100DualCamDataConfig(),
    "unitree_g1": UnitreeG1DataConfig(),
    "unitree_g1_full_body": UnitreeG1FullBodyDataConfig(),
    "oxe_droid": OxeDroidDataConfig(),
    "agibot_genie1": AgibotGenie1DataConfig(),
}
