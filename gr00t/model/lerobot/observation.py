"""Observations under lerobot's own names, as its robots and environments give them.

observation.images.NAME   (H, W, 3) or (B, H, W, 3) uint8, or (3, H, W), (B, 3, H, W) in [0, 1] or uint8
observation.state         (A,) or (B, A)
task                      a text, or one per sample; may be missing
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gr00t.data.errors import ObservationError
from gr00t.data.leaves import numbers_of
from gr00t.model.lerobot.keys import GrootKeys
from gr00t.model.lerobot.rules import STATE, GrootRules
from gr00t.spelling import did_you_mean

_PREFIX = "observation."
_TASK = "task"
_ROBOT_TYPE = "robot_type"  # a text, too, that lerobot sends along
_LARGEST_BATCH = 256


def from_lerobot(observation: Mapping[str, Any], rules: GrootRules, keys: GrootKeys) -> Mapping[str, Any]:
    """Return an observation under the names of `keys`; one that has no name of lerobot's as it is.

    Raises:
        ObservationError: one of lerobot's keys is missing, unknown, or not of its form.
    """
    if not isinstance(observation, Mapping):
        return observation
    renamed = dict(rules.renamed)
    named: dict[str, Any] = {}
    for key, value in observation.items():
        if isinstance(key, str) and (own := renamed.get(key, key)) in named:
            raise ObservationError(f"{own!r} came twice, once as {key!r}: the robot's keys are renamed to it")
        if isinstance(key, str):
            named[own] = value
    if not any(key.startswith(_PREFIX) for key in named):
        return observation
    ours = [key for key in named if key.startswith(("video.", "state."))]
    if ours:
        raise ObservationError(
            f"keys of two kinds: {ours[0]!r} beside lerobot's {_PREFIX}NAME; send one kind"
        )
    needed = (*rules.cameras, STATE)
    for key in needed:
        if key not in named:
            # Only a key that nobody needs can be a misspelling of a missing one.
            others = [other for other in named if other not in needed]
            hint = f"; {did_you_mean(key, others)}" if others else ""
            raise ObservationError(f"no {key!r} in the observation, which has {', '.join(named)}{hint}")
    state = _numbers(STATE, named[STATE])
    if state.ndim not in (1, 2):
        raise ObservationError(f"{STATE}: expected shape (A,) or (B, A), got {state.shape}")
    batched = state.ndim == 2
    if batched and len(state) > _LARGEST_BATCH:
        raise ObservationError(f"{STATE}: a batch of {len(state)}; at most {_LARGEST_BATCH} are accepted")
    converted: dict[str, Any] = {}
    for theirs, key in zip(rules.cameras, keys.cameras, strict=True):
        frames = _frames(theirs, named[theirs], batched)
        converted[key] = frames[:, None] if batched else frames[None]
    start = 0
    for key, width in keys.state.items():
        part = state[..., start : start + width]
        converted[key] = part[:, None] if batched else part[None]
        start += width
    if state.shape[-1] != start:
        raise ObservationError(f"{STATE}: expected {start} numbers, got {state.shape[-1]}")
    if (task := named.get(_TASK)) is not None:
        converted[keys.language] = [task] * len(state) if batched and isinstance(task, str) else task
        return converted
    # The instruction may have come under another name, which is for `find_instruction` to say.
    return converted | {
        key: value
        for key, value in named.items()
        if not key.startswith(_PREFIX) and key not in (_TASK, _ROBOT_TYPE)
    }


def _frames(key: str, value: Any, batched: bool) -> np.ndarray:
    """Frames (H, W, 3) or (B, H, W, 3) uint8."""
    frames = _numbers(key, value)
    if frames.ndim != (4 if batched else 3):
        wanted = "(B, H, W, 3) or (B, 3, H, W)" if batched else "(H, W, 3) or (3, H, W)"
        raise ObservationError(f"{key}: expected shape {wanted}, got {frames.shape}")
    if frames.shape[-1] != 3:
        if frames.shape[-3] != 3:
            raise ObservationError(f"{key}: expected three colours first or last, got shape {frames.shape}")
        frames = np.moveaxis(frames, -3, -1)
    if frames.dtype == np.uint8:
        return frames
    if frames.dtype.kind != "f" or not np.isfinite(frames).all() or frames.min() < 0 or frames.max() > 1:
        raise ObservationError(f"{key}: expected uint8, or floating-point numbers from 0 to 1")
    # Cut, not rounded, as lerobot does it.
    return (frames.astype(np.float32) * np.float32(255)).astype(np.uint8)


def _numbers(key: str, value: Any) -> np.ndarray:
    if not isinstance(value, list | tuple | np.ndarray):
        raise ObservationError(f"{key}: expected an array of numbers, got {type(value).__name__}")
    array = numbers_of(key, value)
    if array.size == 0:
        raise ObservationError(f"{key}: expected an array of numbers, got none, of shape {array.shape}")
    return array
