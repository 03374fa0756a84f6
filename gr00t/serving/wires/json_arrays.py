"""JSON with arrays, as the package json-numpy writes it and Isaac-GR00T N1.5 speaks it over HTTP.

    array    {"__numpy__": <base64 of its bytes>, "dtype": "<f4", "shape": [1, 7]}

Whatever arrives is treated as hostile, as in wires.n1_5: what a text declares is counted before anything
is built, and an array's size must be the size that is there.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Generator
from typing import Any

import numpy as np

from gr00t.data.dataset import ModalityConfig
from gr00t.serving.wires.array_maps import read_array
from gr00t.serving.wires.n1_5 import PackError, simplify, what_cannot_be_sent
from gr00t.serving.wires.outline import MAX_KEYS, MAX_VALUES, WireError
from gr00t.serving.wires.places import Undecodables, fields_of

_MARK = "__numpy__"
_SLICE_BYTES = 1024 * 1024  # gone over in 1.5 to 2 ms (AMD EPYC)
_MAX_DIGITS = 400  # of a whole number; reading a longer one takes Python's time with the square of its length


class JsonError(WireError):
    """A text that is no JSON, or too much of it."""


def dumps(message: Any) -> bytes:
    """Encode maps, lists, text, numbers, arrays and ModalityConfigs.

    Raises:
        PackError: a value of another type.
    """
    try:
        return json.dumps(message, default=_encode, separators=(",", ":"), ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise PackError(what_cannot_be_sent(message, error)) from None


def count_values(text: bytes) -> Generator[None, None, None]:
    """Go over a text before it is decoded, with a pause after each mebibyte.

    Raises:
        JsonError: it may hold more values than a message needs.
    """
    count = keys = 0
    for begin in range(0, len(text), _SLICE_BYTES):
        part = text[begin : begin + _SLICE_BYTES]
        count += part.count(b",") + part.count(b"[") + part.count(b"{")
        keys += part.count(b":")
        if count > MAX_VALUES:
            raise JsonError(f"JSON with more than {MAX_VALUES} values; send numbers as arrays of json-numpy")
        if keys > MAX_KEYS:
            raise JsonError(f"JSON with more than {MAX_KEYS} keys")
        yield


def loads(text: bytes) -> Any:
    """Decode a text that `count_values` has gone over; arrays come back writable.

    Raises:
        JsonError: it is no JSON.
        WireError: an array that is not a plain one.
    """
    faults = Undecodables()
    try:
        message = json.loads(text, object_pairs_hook=faults.kept(_decode), parse_int=_parse_int)
    except JsonError:
        raise
    except (ValueError, RecursionError) as error:
        raise JsonError(f"not JSON: {error}") from None
    faults.check(message)
    return message


def _encode(value: Any) -> Any:
    value = simplify(value)
    if isinstance(value, np.ndarray):
        return {
            _MARK: base64.b64encode(value.tobytes()).decode(),
            "dtype": np.lib.format.dtype_to_descr(value.dtype),
            "shape": value.shape,
        }
    if isinstance(value, ModalityConfig):
        return value.model_dump()
    if not isinstance(value, bool | int | float):
        raise TypeError(f"can not serialize {type(value).__name__!r} object")
    return value


def _decode(entries: list[tuple[str, Any]]) -> Any:
    fields = fields_of(entries)
    if _MARK not in fields:
        return fields
    data = fields[_MARK]
    if not isinstance(data, str):
        raise WireError(f"array: {_MARK} must be base64 text, got {type(data).__name__}")
    try:
        raw = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise WireError(f"array: {_MARK} is not base64: {error}") from None
    return read_array(fields.get("dtype"), fields.get("shape"), raw)


def _parse_int(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise JsonError(f"a number of {len(digits)} digits")
    return int(digits)
