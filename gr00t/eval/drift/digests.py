"""Which observation it is, by its content: what calibrates is told from what judges, however it is packed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from gr00t.serving.observation_file import EPISODE
from gr00t.serving.wires import n1_5 as wire

# Hexadecimal digits of a digest, 64 bits: of a million observations no two share one by chance.
_DIGITS = 16


def digest(observation: Mapping[str, Any]) -> str:
    """Return a digest of what a policy sees of an observation.

    The order of its keys, the width of its numbers (as float32), axes of one and the episode do not matter.
    """
    content = hashlib.sha256()
    for key in sorted(observation):
        if key != EPISODE:
            content.update(f"{key}\0".encode())
            content.update(_plain(observation[key]))
    return content.hexdigest()[:_DIGITS]


def _plain(value: Any) -> bytes:
    try:
        array = np.asarray(value)
    except ValueError:  # lists of different lengths
        return wire.pack({"": value})
    shape = [length for length in array.shape if length != 1]
    if array.dtype.kind in "biuf":
        with np.errstate(over="ignore"):
            return repr(shape).encode() + np.ascontiguousarray(array, "<f4").tobytes()
    if array.dtype.kind == "U":
        return repr((shape, array.ravel().tolist())).encode()
    return wire.pack({"": value})
