"""A data set without meta/modality.json, as LeRobot itself writes them.

There is what needs no choice: `state.state` and `action.action`, the whole vectors; every camera under its
own name, `video.front` of `observation.images.front`, depth maps aside; and the instruction by task number,
under both of the names that NVIDIA's configurations use. A configuration that wants more is told what to
write.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from gr00t.data.lerobot.meta.faults import Fault
from gr00t.data.lerobot.meta.features import (
    ACTION,
    IMAGES,
    STATE,
    TASK_INDEX,
    camera_features,
    names_of,
    width_of,
)

_WHOLE = {"state": STATE, "action": ACTION}


def modality_without_file(features: Mapping[str, Any]) -> dict[str, Any]:
    """What modality.json would say where there is nothing to choose."""
    content: dict[str, Any] = {"state": {}, "action": {}, "video": {}}
    for kind, key in _WHOLE.items():
        width = width_of(features, key)
        if width:
            content[kind][kind] = {"start": 0, "end": width}
    for key in camera_features(features):
        name = key.removeprefix(IMAGES).removeprefix("observation.")
        content["video"][key if name in content["video"] else name] = {"original_key": key}
    names = ("human.task_description", "human.action.task_description")
    return {**content, "annotation": {name: {"original_key": TASK_INDEX} for name in names}}


def file_needed(
    path: Path, missing: Collection[str], known: Collection[str], features: Mapping[str, Any]
) -> Fault:
    """The fault of a set without the file, of which keys are wanted that only the file can explain."""
    example: dict[str, dict[str, Any]] = {}
    numbers = []
    for key in missing:
        kind, _, name = key.partition(".")
        if kind in _WHOLE:
            width, named = width_of(features, _WHOLE[kind]), names_of(features, _WHOLE[kind])
            example.setdefault(kind, {})[name] = {"start": 0, "end": width}
            numbers.append(f"{_WHOLE[kind]} is {width} wide" + (f": {', '.join(named)}" if named else ""))
        elif kind in ("video", "annotation"):
            cameras = camera_features(features)
            original = TASK_INDEX if kind == "annotation" else [*cameras, IMAGES + name][0]
            example.setdefault(kind, {})[name] = {"original_key": original}
    told = "".join(f"; {text}" for text in dict.fromkeys(numbers))
    return Fault(
        path,
        f"not found, and without it there is no {', '.join(map(repr, missing))}",
        allowed=f"there are {', '.join(known)}",
        helps=f"write one with your own numbers and names, such as {json.dumps(example)}{told}",
    )
