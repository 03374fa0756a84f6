"""What a client may send, checked before anything is computed, so that every error names its key."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from gr00t.data.dataset import ModalityConfig
from gr00t.data.errors import ObservationError
from gr00t.data.schema import DatasetMetadata
from gr00t.data.transform.video import check_frames
from gr00t.spelling import did_you_mean

MAX_KEYS = 256
MAX_INSTRUCTION_CHARACTERS = 2_000
# A state so many times as large as any in training is no state: a wrong unit or a broken sensor. The network
# would overflow somewhere, and a running calibration would take it for the range of its activations.
_FARTHEST = 1e6
_MIN_PIXELS = 4  # of fewer a crop may leave none
_MAX_NUMBERS = 1_000_000
_NAMED = 20  # keys of an observation that an error lists, and
_NAME_CHARACTERS = 60  # how much of each


def prepare_observation(
    observation: Mapping[str, Any], modalities: Mapping[str, ModalityConfig], metadata: DatasetMetadata
) -> tuple[dict[str, Any], bool]:
    """Check an observation and give it a batch dimension if it has none.

    It is a single observation if any state has fewer than three dimensions, as in the reference.

    Args:
        observation: `video.*` (T, H, W, 3) uint8, `state.*` (S, A) numbers and the instruction as a string or
            a list of one string; or all of them with a batch dimension in front, instructions as a list of B
            strings or an array (B, 1) of strings. Other keys are ignored.
        modalities: the keys and the number of time steps that the policy needs.
        metadata: the shapes that it was trained on.

    Returns:
        The observation with the batch dimension, only the needed keys; and whether it had that dimension.

    Raises:
        ObservationError: the first thing that is wrong, with its key, what was expected and what was got.
    """
    if not isinstance(observation, Mapping):
        raise ObservationError(f"expected a dict of arrays, got {type(observation).__name__}")
    if len(observation) > MAX_KEYS:
        raise ObservationError(f"an observation of {len(observation)} keys; at most {MAX_KEYS} are accepted")
    needed = {kind: config.modality_keys for kind, config in modalities.items() if kind != "action"}
    _check_keys(observation, [key for keys in needed.values() for key in keys])
    states = {key: _numbers(key, observation[key], metadata) for key in needed.get("state", [])}
    videos = {key: observation[key] for key in needed.get("video", [])}
    for key, frames in videos.items():
        check_frames(key, frames, metadata.entry(metadata.modalities, key))
        height, width = frames.shape[-3:-1]
        if min(height, width) < _MIN_PIXELS:
            raise ObservationError(
                f"{key}: frames of {width}x{height} pixels (width x height); expected at least {_MIN_PIXELS} "
                "in each direction"
            )
    if states:
        batched = all(value.ndim >= 3 for value in states.values())
    else:
        batched = all(frames.ndim == 5 for frames in videos.values())
    arrays = {
        key: _with_time(key, value, modalities["state"], batched, metadata) for key, value in states.items()
    }
    for key, frames in videos.items():
        _check_steps(key, frames, modalities["video"], batched)
        arrays[key] = frames if batched else frames[None]
    sizes = {key: len(value) for key, value in arrays.items()}
    batch = next(iter(sizes.values()), 1)
    for key, size in sizes.items():
        if size != batch or size == 0:
            raise ObservationError(
                f"{key}: expected a batch of {max(batch, 1)} like {next(iter(sizes))}, got {size}"
            )
    prepared: dict[str, Any] = dict(arrays)
    for key in needed.get("language", []):
        prepared[key] = _instructions(key, observation[key], batch, batched)
    return prepared, batched


def _check_keys(observation: Mapping[str, Any], needed: list[str]) -> None:
    for key in needed:
        if key not in observation:
            # Only a key that nobody needs can be a misspelling of a missing one.
            others = [str(other)[:_NAME_CHARACTERS] for other in observation if other not in needed]
            hint = f"; {did_you_mean(key, others)}" if others else ""
            got = (
                ", ".join(str(other)[:_NAME_CHARACTERS] for other in list(observation)[:_NAMED]) or "nothing"
            )
            got += f" and {len(observation) - _NAMED} more" if len(observation) > _NAMED else ""
            raise ObservationError(f"no {key!r} in the observation, which has {got}{hint}")


def _numbers(key: str, value: Any, metadata: DatasetMetadata) -> np.ndarray:
    """Return a state as floating-point numbers; their precision is kept: it is that of the arithmetic."""
    # numpy makes texts in a list as long as the longest of them: a small list can take all memory there is.
    if isinstance(value, str | bytes) or any(isinstance(leaf, str | bytes) for leaf in _leaves(value)):
        raise ObservationError(f"{key}: expected an array of numbers, got {_kind(value)}")
    array = _array(key, value)
    if array.dtype.kind not in "fiu":
        raise ObservationError(f"{key}: expected an array of numbers, got {_kind(value)}")
    if array.size > _MAX_NUMBERS:  # the copies below would take eight times as much memory
        raise ObservationError(f"{key}: expected a state, got {array.size} numbers")
    array = array if array.dtype.kind == "f" and array.dtype.itemsize <= 8 else array.astype(np.float64)
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
        value = value[None, None] if value.ndim == 1 and steps == 1 else value[None]
    if value.ndim != 3 or value.shape[1:] != (steps, width):
        single, many = f"({steps}, {width})", f"(B, {steps}, {width})"
        raise ObservationError(f"{key}: expected shape {many if batched else single}, got {got}")
    return value


def _check_steps(key: str, frames: np.ndarray, config: ModalityConfig, batched: bool) -> None:
    steps = len(config.delta_indices)
    if frames.ndim != (5 if batched else 4) or frames.shape[-4] != steps:
        lead = "B, " if batched else ""
        raise ObservationError(
            f"{key}: expected shape ({lead}{steps}, H, W, {frames.shape[-1]}), got {frames.shape}"
        )


def _instructions(key: str, value: Any, batch: int, batched: bool) -> Any:
    """Return one instruction per sample, as an array (B, 1) where the reference would print one, else a list.

    How the instruction arrives decides its form in the prompt; see gr00t.model.transforms.
    """
    # Counted before numpy sees them, which makes all texts as long as the longest.
    texts = list(itertools.islice(_leaves(value), batch + 1))
    if not texts or not all(isinstance(text, str) for text in texts):
        raise ObservationError(f"{key}: expected text, got {_kind(value)}")
    if len(texts) != batch:
        many = itertools.islice(_leaves(value), _MAX_NUMBERS)
        got = value.size if isinstance(value, np.ndarray) else sum(1 for _ in many)
        wanted = "one instruction" if not batched else f"{batch} instructions, one per sample"
        raise ObservationError(f"{key}: expected {wanted}, got {got}")
    longest = max(map(len, texts))
    if longest > MAX_INSTRUCTION_CHARACTERS:
        raise ObservationError(
            f"{key}: an instruction of {longest} characters; "
            f"at most {MAX_INSTRUCTION_CHARACTERS} are accepted"
        )
    if any("\ud800" <= character <= "\udfff" for text in texts for character in text):
        raise ObservationError(f"{key}: an instruction has half a character (a surrogate), which is no text")
    array = _array(key, value)
    if not batched:
        return array.reshape(1, 1)
    if array.shape not in ((batch,), (batch, 1)):
        raise ObservationError(
            f"{key}: expected a list of {batch} instructions, one per sample, got shape {array.shape}"
        )
    return array if array.ndim == 2 else array.tolist()


def _leaves(value: Any) -> Iterator[Any]:
    """Yield what a list holds, at whatever depth, or an array; or the value itself."""
    if isinstance(value, list | tuple):
        for inner in value:
            yield from _leaves(inner)
    elif isinstance(value, np.ndarray) and value.dtype.kind not in "fiubc":
        yield from (entry.item() if isinstance(entry, np.generic) else entry for entry in value.flat)
    else:
        yield value


def _array(key: str, value: Any) -> np.ndarray:
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ObservationError(f"{key}: expected an array, got lists of different lengths") from error


def _kind(value: Any) -> str:
    return f"dtype {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
