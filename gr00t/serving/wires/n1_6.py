"""The bytes of Isaac-GR00T N1.6 and N1.7: N1.5's wire, with another question and two ways to write arrays.

`get_action` carries `{"observation": {...}, "options": {...} or nil}` and is answered by the list
`[actions, info]`. The observation is nested, or flat as NVIDIA's wrapper for simulators has it; a batch
either way:

    {"video": {"image": (B, T, H, W, 3)}, "state": {"x": (B, T, D)}, "language": {KEY: [[text], ...]}}
    {"video.image": ..., "state.x": ..., KEY: [text, ...]}

Arrays come as in N1.5 or, since N1.7, as the package msgpack-numpy writes them; answers go in the same form.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from gr00t.serving.wires import n1_5
from gr00t.serving.wires.array_maps import encode_msgpack_numpy, read_either
from gr00t.serving.wires.outline import MAX_VALUES, WireError

_ND_KEY = b"\xc4\x02nd"  # as bytes, which a text is not written as
MODALITIES = ("video", "state", "language")


def speaks_msgpack_numpy(part: bytes) -> bool:
    """Return whether the arrays of a message are written as msgpack-numpy does."""
    return _ND_KEY in part and b"__ndarray_class__" not in part


def pack(message: Any, msgpack_numpy: bool) -> bytes:
    """Encode a reply, with its arrays in one form or the other.

    Raises:
        PackError: A value that cannot be sent.
    """
    encode_array = encode_msgpack_numpy if msgpack_numpy else n1_5.encode
    return n1_5.pack(message, partial(_encode, encode_array=encode_array))


def read_observation(part: bytes | memoryview) -> dict[str, Any]:
    """Decode an observation, nested or not, and return it flat, as N1.5 takes it.

    Raises:
        WireError: No map of arrays and texts in either form.
    """
    told: Any = n1_5.decode(part, read_either)
    if not isinstance(told, dict):
        raise WireError(f"data: observation: expected a map, got {type(told).__name__}")
    nested = any(isinstance(told.get(name), dict) for name in MODALITIES)
    return _flat(told) if nested else {key: _entry(key, value) for key, value in told.items()}


def write_actions(actions: dict[str, Any], nested: bool) -> list[dict[str, Any]]:
    """Return a policy's answer as these clients expect it: without its prefixes if they nest, and an info."""
    if nested:
        actions = {
            key[len("action.") :] if key.startswith("action.") else key: actions[key] for key in actions
        }
    return [actions, {}]


def _flat(told: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for modality, entries in told.items():
        if modality not in MODALITIES or not isinstance(entries, dict):
            raise WireError(
                f"data: observation: {modality[:60]}: expected maps under video, state and language, got "
                f"{type(entries).__name__}"
            )
        for name, value in entries.items():
            key = name if modality == "language" else f"{modality}.{name}"
            flat[key] = _entry(key, value)
    return flat


def _entry(key: str, value: Any) -> Any:
    """Return one entry as N1.5's clients send it.

    There the instructions of a batch are an array, and states have double precision: with the same numbers
    the policy then computes the same action.
    """
    is_state = isinstance(value, np.ndarray) and key.startswith("state.") and value.dtype.kind == "f"
    if is_state and value.size <= MAX_VALUES:  # the policy takes no larger one
        return value.astype(np.float64)
    texts = list(value) if isinstance(value, (list, tuple)) else None
    if texts and all(isinstance(text, list) and len(text) == 1 for text in texts):
        texts = [text[0] for text in texts]
    if texts and all(isinstance(text, str) for text in texts):
        # numpy makes all of them as long as the longest: a small list can take all memory there is.
        if len(texts) * max(map(len, texts)) > MAX_VALUES:
            raise WireError(f"{key}: {len(texts)} texts of up to {max(map(len, texts))} characters")
        return np.array(texts)[:, None]
    return value


def _encode(value: Any, encode_array: Callable[[Any], Any]) -> Any:
    """Return an array in one form or the other, or a ModalityConfig in both.

    Who asks for the latter sends no array, so it does not show which form it reads. N1.6 looks for one of the
    two marks, N1.7 for the other, and neither minds more. Keys have no prefix there.
    """
    dataset = sys.modules.get("gr00t.data.dataset")
    if dataset is None or not isinstance(value, dataset.ModalityConfig):
        return encode_array(value)
    keys = [_without_prefix(key) for key in value.modality_keys]
    config = {"delta_indices": list(value.delta_indices), "modality_keys": keys}
    return {"__ModalityConfig_class__": True, "__ModalityConfig__": True, "as_json": config}


def _without_prefix(key: str) -> str:
    modality, _, name = key.partition(".")
    return name if modality in ("video", "state", "action") and name else key
