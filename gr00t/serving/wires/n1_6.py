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
from typing import Any

import numpy as np

from gr00t.serving.wires import n1_5
from gr00t.serving.wires.array_maps import encode_msgpack_numpy, read_either
from gr00t.serving.wires.n1_5 import simplify
from gr00t.serving.wires.outline import WireError

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
    return n1_5.pack(message, _encode_new if msgpack_numpy else _encode_old)


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
    if isinstance(value, np.ndarray) and key.startswith("state.") and value.dtype.kind == "f":
        return value.astype(np.float64)
    texts = list(value) if isinstance(value, (list, tuple)) else None
    if texts and all(isinstance(text, list) and len(text) == 1 for text in texts):
        texts = [text[0] for text in texts]
    if texts and all(isinstance(text, str) for text in texts):
        return np.array(texts)[:, None]
    return value


def _encode_old(value: Any) -> Any:
    config = _plain_config(value)
    return n1_5.encode(value) if config is None else {"__ModalityConfig_class__": True, "as_json": config}


def _encode_new(value: Any) -> Any:
    config = _plain_config(value)
    if config is None:
        return encode_msgpack_numpy(simplify(value))
    return {"__ModalityConfig__": True, "as_json": config}


def _plain_config(value: Any) -> dict[str, Any] | None:
    """Return a ModalityConfig as these clients know it, a map whose keys have no prefix; None for others."""
    dataset = sys.modules.get("gr00t.data.dataset")
    if dataset is None or not isinstance(value, dataset.ModalityConfig):
        return None
    keys = [_without_prefix(key) for key in value.modality_keys]
    return {"delta_indices": list(value.delta_indices), "modality_keys": keys}


def _without_prefix(key: str) -> str:
    modality, _, name = key.partition(".")
    return name if modality in ("video", "state", "action") and name else key
