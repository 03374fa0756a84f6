"""What the `features` of info.json say, by LeRobot's conventions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

STATE, ACTION, TASK_INDEX = "observation.state", "action", "task_index"
IMAGES = "observation.images."


def camera_features(features: Mapping[str, Any]) -> list[str]:
    """Features that are videos or images of what can be seen, not of depth."""
    return [key for key, feature in features.items() if _is_camera(feature)]


def is_image(features: Mapping[str, Any], key: str) -> bool:
    """Whether a camera's frames are in the rows themselves, rather than in a video."""
    feature = features.get(key)
    return isinstance(feature, dict) and feature.get("dtype") == "image"


def width_of(features: Mapping[str, Any], key: str) -> int:
    """How many numbers a row of a feature has; 0 where that is not told."""
    feature = features.get(key)
    shape = feature.get("shape") if isinstance(feature, dict) else None
    if not isinstance(shape, list) or not all(type(side) is int and side > 0 for side in shape):
        return 0
    return math.prod(shape) if shape else 0


def names_of(features: Mapping[str, Any], key: str) -> list[str]:
    """The names of a feature's numbers, where they are told."""
    feature = features.get(key)
    names = feature.get("names") if isinstance(feature, dict) else None
    if isinstance(names, dict):  # {"motors": [...]}, as older recordings have it
        names = [name for group in names.values() for name in (group if isinstance(group, list) else [group])]
    return [str(name) for name in names] if isinstance(names, list) else []


def _is_camera(feature: Any) -> bool:
    if not isinstance(feature, dict) or feature.get("dtype") not in ("video", "image"):
        return False
    told = [feature.get(name) for name in ("info", "video_info")]
    return not any(isinstance(info, dict) and info.get("video.is_depth_map") is True for info in told)
