"""How the LIBERO checkpoints of GR00T N1.5 see the simulator: two cameras, end-effector pose, gripper."""

from __future__ import annotations

from typing import ClassVar

from gr00t.experiment.data_config import StandardDataConfig

_ACTIONS = ["action.x", "action.y", "action.z", "action.roll", "action.pitch", "action.yaw", "action.gripper"]


class LiberoDataConfig(StandardDataConfig):
    """States and actions by `min_max`: how most LIBERO checkpoints were trained."""

    video_keys: ClassVar[list[str]] = ["video.image", "video.wrist_image"]
    state_keys: ClassVar[list[str]] = [key.replace("action", "state") for key in _ACTIONS]
    action_keys: ClassVar[list[str]] = _ACTIONS


class LiberoDataConfigMeanStd(LiberoDataConfig):
    """Actions by `mean_std`, except the gripper: how the checkpoint of suite goal was trained."""

    action_normalization_modes: ClassVar[dict[str, str] | None] = {
        **dict.fromkeys(_ACTIONS[:-1], "mean_std"),
        _ACTIONS[-1]: "min_max",
    }
