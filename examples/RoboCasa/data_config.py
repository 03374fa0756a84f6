"""How checkpoints of GR00T N1.5 see RoboCasa365: as `single_panda_gripper`, by the names of its own cameras.

The benchmark's harness sends frames and states under these keys and takes the actions in this order, joined
(gr00t.serving.harnesses.robots): serve with --wire vla-eval.
"""

from __future__ import annotations

from typing import ClassVar

from gr00t.experiment.robots import SinglePandaGripperDataConfig


class RoboCasa365DataConfig(SinglePandaGripperDataConfig):
    """Three cameras; twelve numbers per action: 3 + 3 of the hand, gripper, 4 of the base, mode."""

    video_keys: ClassVar[list[str]] = [
        "video.robot0_agentview_left",
        "video.robot0_agentview_right",
        "video.robot0_eye_in_hand",
    ]
