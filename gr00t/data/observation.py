"""What a client may send, checked before anything is computed, so that every error names its key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gr00t.data.dataset import ModalityConfig
from gr00t.data.errors import ObservationError, shown
from gr00t.data.instruction import find_instruction, read_instructions
from gr00t.data.leaves import numbers_of
from gr00t.data.schema import DatasetMetadata
from gr00t.spelling import did_you_mean

MAX_KEYS = 256
# A state so many times as large as any in training is no state: a wrong unit or a broken sensor. The network
# would overflow somewhere, and a running calibration would take it for the range of its activations.
_FARTHEST = 1e6
_MIN_PIXELS = 4  # of fewer a crop may leave none
_MAX_NUMBERS = 1_000_000
_NAMED = 20  # keys of an observation that an error lists


def prepare_observation(
    observation: Mapping[str, Any], modalities: Mapping[str, ModalityConfig], metadata: DatasetMetadata
) -> tuple[dict[str, Any], bool]:
    """Check an observation and give it a batch dimension if it has none.

    It is a single observation if any state has fewer than three dimensions, as in the reference.

    Args:
        observation: `video.*` (T, H, W, 3) uint8, `state.*` (S, A) numbers and the instruction as a string or
            a list of one string (`gr00t.data.instruction` says under which keys); or all of them with a batch
            dimension in front, instructions as a list of B strings or an array (B, 1) of strings. A single
            observation of one time step may leave out T and S. Other keys are ignored.
        modalities: the keys and the number of time steps that the policy needs.
        metadata: the shapes that it was trained on.

    Returns:
        The observation with the batch dimension, only the needed keys, the instruction only if there is one;
        and whether it had that dimension. What the pixels have to be is for the transforms to check: the
        first of them may be there to make them so.

    Raises:
        ObservationError: the first thing that is wrong, with its key, what was expected and what was got.
    """
    if not isinstance(observation, Mapping):
        raise ObservationError(f"expected a dict of arrays, got {type(observation).__name__}")
    if len(observation) > MAX_KEYS:
        raise ObservationError(f"an observation of {len(observation)} keys; at most {MAX_KEYS} are accepted")
    needed = {kind: config.modality_keys for kind, config in modalities.items() if kind in ("video", "state")}
    arrays_needed = [key for keys in needed.values() for key in keys]
    _check_keys(observation, arrays_needed)
    language = modalities["language"].modality_keys if "language" in modalities else []
    instruction = find_instruction(observation, language, arrays_needed)
    states = {key: _state(key, observation[key], metadata) for key in needed.get("state", [])}
    videos = {key: _frames(key, observation[key], metadata) for key in needed.get("video", [])}
    if states:
        batched = all(value.ndim >= 3 for value in states.values())
    else:
        batched = all(frames.ndim == 5 for frames in videos.values())
    arrays = {
        key: _with_time(key, value, modalities["state"], batched, metadata) for key, value in states.items()
    }
    for key, frames in videos.items():
        arrays[key] = _with_batch(key, frames, modalities["video"], batched)
    sizes = {key: len(value) for key, value in arrays.items()}
    batch = next(iter(sizes.values()), 1)
    for key, size in sizes.items():
        if size != batch or size == 0:
            raise ObservationError(
                f"{key}: expected a batch of {max(batch, 1)} like {next(iter(sizes))}, got {size}"
            )
    prepared: dict[str, Any] = dict(arrays)
    if instruction is not None:
        key, value = instruction
        steps = len(modalities["language"].delta_indices) if "language" in modalities else 1
        prepared[key] = read_instructions(key, value, batch, batched, steps)
    return prepared, batched


def _check_keys(observation: Mapping[str, Any], needed: list[str]) -> None:
    for key in needed:
        if key not in observation:
            # Only a key that nobody needs can be a misspelling of a missing one.
            others = [shown(other) for other in observation if other not in needed]
            hint = f"; {did_you_mean(key, others)}" if others else ""
            got = ", ".join(shown(other) for other in list(observation)[:_NAMED]) or "nothing"
            got += f" and {len(observation) - _NAMED} more" if len(observation) > _NAMED else ""
            if "observation" in observation or isinstance(observation.get("video"), Mapping):
                hint = (
                    "; this looks like an observation of Isaac-GR00T N1.6 or later: N1.5 takes flat ones, "
                    "with video.CAMERA and state.PART as their keys; --wire n1_6 serves those clients"
                )
            raise ObservationError(f"no {key!r} in the observation, which has {got}{hint}")


def _state(key: str, value: Any, metadata: DatasetMetadata) -> np.ndarray:
    """Return a state as floating-point numbers; their precision is kept: it is that of the arithmetic."""
    array = numbers_of(key, value)
    if array.size > _MAX_NUMBERS:  # the copies below would take eight times as much memory
        raise ObservationError(f"{key}: expected a state, got {array.size} numbers")
    array = array if array.dtype.kind == "f" and array.dtype.itemsize <= 8 else array.astype(np.float64)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)  # torch takes no other
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        where = tuple(int(i) for i in bad[0])
        raise ObservationError(f"{key}: expected finite numbers, got {array[where]} at {list(where)}")
    statistics = metadata.statistics.state.get(key.partition(".")[2])
    if statistics is not None and array.size:
        low, high = float(statistics.min.min()), float(statistics.max.max())
        far = np.abs(array)
        if float(far.max()) > _FARTHEST * max(1.0, abs(low), abs(high)):
            where = tuple(int(i) for i in np.unravel_index(far.argmax(), far.shape))
            raise ObservationError(
                f"{key}: {array[where]:g} at {list(where)} cannot be a state of this robot; in training it "
                f"was between {low:g} and {high:g}"
            )
    return array


def _with_time(
    key: str, value: np.ndarray, config: ModalityConfig, batched: bool, metadata: DatasetMetadata
) -> np.ndarray:
    """Return a state as (B, S, A); a single observation of one time step may leave out S as well as B."""
    steps, width = len(config.delta_indices), metadata.entry(metadata.modalities, key).shape[0]
    got = value.shape
    if not batched:
        if value.ndim == 0 and width == 1:
            value = value[None]
        value = value[None, None] if value.ndim == 1 and steps == 1 else value[None]
    if value.ndim != 3 or value.shape[1:] != (steps, width):
        single, many = f"({steps}, {width})", f"(B, {steps}, {width})"
        raise ObservationError(f"{key}: expected shape {many if batched else single}, got {got}")
    return value


def _frames(key: str, value: Any, metadata: DatasetMetadata) -> np.ndarray:
    """Return the frames of one camera as an array of three to five dimensions.

    Lists have no type of their own, so whole numbers from 0 to 255 in them are pixels.
    """
    frames = value if isinstance(value, np.ndarray) else numbers_of(key, value)
    if isinstance(value, list | tuple) and frames.dtype.kind in "iu" and frames.dtype != np.uint8:
        if frames.size and not 0 <= frames.min() <= frames.max() <= 255:
            raise ObservationError(
                f"{key}: expected pixels from 0 to 255, got {frames.min()} to {frames.max()}"
            )
        frames = frames.astype(np.uint8)
    channels = metadata.entry(metadata.modalities, key).channels
    if frames.dtype.kind not in "fiu" or frames.ndim not in (3, 4, 5) or 0 in frames.shape:
        got = frames.shape if frames.dtype.kind in "fiu" else f"dtype {frames.dtype}"
        raise ObservationError(
            f"{key}: expected shape (T, H, W, {channels}) or (B, T, H, W, {channels}), got {got}"
        )
    height, width = frames.shape[-3:-1]
    if frames.shape[-1] == channels and min(height, width) < _MIN_PIXELS:
        raise ObservationError(
            f"{key}: frames of {width}x{height} pixels (width x height); expected at least {_MIN_PIXELS} "
            "in each direction"
        )
    return frames


def _with_batch(key: str, frames: np.ndarray, config: ModalityConfig, batched: bool) -> np.ndarray:
    """Return frames as (B, T, H, W, C); a single observation of one time step may leave out T, too."""
    steps, got = len(config.delta_indices), frames.shape
    if not batched:
        frames = frames[None, None] if frames.ndim == 3 and steps == 1 else frames[None]
    if frames.ndim != 5 or frames.shape[1] != steps:
        raise ObservationError(
            f"{key}: expected shape ({'B, ' if batched else ''}{steps}, H, W, {got[-1]}), got {got}"
        )
    return frames
