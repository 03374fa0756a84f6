"""What a data configuration is, and the pipeline that N1.5's own have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from gr00t.data.dataset import ModalityConfig
from gr00t.data.transform.base import ComposedModalityTransform, ModalityTransform
from gr00t.data.transform.concat import ConcatTransform
from gr00t.data.transform.state_action import (
    StateActionSinCosTransform,
    StateActionToTensor,
    StateActionTransform,
)
from gr00t.data.transform.video import (
    VideoColorJitter,
    VideoCrop,
    VideoResize,
    VideoToNumpy,
    VideoToTensor,
)
from gr00t.model.preprocessing.gr00t_transform import GR00TTransform


class BaseDataConfig(ABC):
    """The keys of a robot and its pipeline; subclasses set the keys and build the pipeline."""

    video_keys: ClassVar[list[str]]
    state_keys: ClassVar[list[str]]
    action_keys: ClassVar[list[str]]
    language_keys: ClassVar[list[str]]
    observation_indices: ClassVar[list[int]]
    action_indices: ClassVar[list[int]]

    def modality_config(self) -> dict[str, ModalityConfig]:
        """Return keys and time steps of video, state, action and language."""
        observed, acted = self.observation_indices, self.action_indices
        return {
            "video": ModalityConfig(delta_indices=observed, modality_keys=self.video_keys),
            "state": ModalityConfig(delta_indices=observed, modality_keys=self.state_keys),
            "action": ModalityConfig(delta_indices=acted, modality_keys=self.action_keys),
            "language": ModalityConfig(delta_indices=observed, modality_keys=self.language_keys),
        }

    @abstractmethod
    def transform(self) -> ModalityTransform:
        """Build the pipeline; every call returns a new one."""


class StandardDataConfig(BaseDataConfig):
    """The pipeline that all of N1.5's configurations share; keys without an explicit mode are `min_max`.

    Attributes:
        image_size: side of the square images that the model takes.
        image_crop: share of each side that is cut out, in training at random, else in the middle.
        color_jitter: of `VideoColorJitter`, in training; empty: none.
        state_normalization_modes: mode per state key; None: `min_max` for all of them.
        state_target_rotations: rotation representation per state key.
        state_sin_cos: sines and cosines of the states instead of normalization.
        action_normalization_modes: mode per action key; None: `min_max` for all of them.
        action_target_rotations: rotation representation per action key.
    """

    language_keys: ClassVar[list[str]] = ["annotation.human.action.task_description"]
    observation_indices: ClassVar[list[int]] = [0]
    action_indices: ClassVar[list[int]] = list(range(16))
    image_size: ClassVar[int] = 224
    image_crop: ClassVar[float] = 0.95
    color_jitter: ClassVar[dict[str, Any]] = {
        "brightness": 0.3,
        "contrast": 0.4,
        "saturation": 0.5,
        "hue": 0.08,
    }
    state_normalization_modes: ClassVar[dict[str, str] | None] = None
    state_target_rotations: ClassVar[dict[str, str]] = {}
    state_sin_cos: ClassVar[bool] = False
    action_normalization_modes: ClassVar[dict[str, str] | None] = None
    action_target_rotations: ClassVar[dict[str, str]] = {}

    def transform(self) -> ModalityTransform:
        """Build the pipeline: video, state, action, joining, model input."""
        video, state, action = self.video_keys, self.state_keys, self.action_keys
        normalize_state: ModalityTransform = StateActionSinCosTransform(apply_to=state)
        if not self.state_sin_cos:
            modes = self.state_normalization_modes
            normalize_state = StateActionTransform(
                apply_to=state,
                normalization_modes=dict.fromkeys(state, "min_max") if modes is None else modes,
                target_rotations=self.state_target_rotations,
            )
        modes = self.action_normalization_modes
        normalize_action = StateActionTransform(
            apply_to=action,
            normalization_modes=dict.fromkeys(action, "min_max") if modes is None else modes,
            target_rotations=self.action_target_rotations,
        )
        return ComposedModalityTransform(
            transforms=[
                VideoToTensor(apply_to=video),
                VideoCrop(apply_to=video, scale=self.image_crop),
                VideoResize(
                    apply_to=video, height=self.image_size, width=self.image_size, interpolation="linear"
                ),
                *([VideoColorJitter(apply_to=video, **self.color_jitter)] if self.color_jitter else []),
                VideoToNumpy(apply_to=video),
                StateActionToTensor(apply_to=state),
                normalize_state,
                StateActionToTensor(apply_to=action),
                normalize_action,
                ConcatTransform(
                    video_concat_order=video, state_concat_order=state, action_concat_order=action
                ),
                GR00TTransform(
                    state_horizon=len(self.observation_indices),
                    action_horizon=len(self.action_indices),
                    max_state_dim=64,
                    max_action_dim=32,
                ),
            ]
        )
