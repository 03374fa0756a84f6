"""Arrays as maps of plain fields: three ways of writing them, each of which some clients speak.

    openpi          {b"__ndarray__": true, b"data": bytes, b"dtype": "<f4", b"shape": [7]}, with keys of bytes
    vla-eval        {"__ndarray__": true, "data": bytes, "dtype": "<f4", "shape": [7]}
    msgpack-numpy   {b"nd": true, b"type": "<f4", b"kind": b"", b"shape": [7], b"data": bytes}

vla-eval also sends images as the bytes of a PNG file. They are left so: who needs the pixels decodes them
(gr00t.serving.harnesses.images), since most observations only fetch the next action of a chunk.

Whatever arrives is treated as hostile, as in wires.n1_5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gr00t.serving.wires.n1_5 import build_array, decode_map, simplify
from gr00t.serving.wires.outline import WireError
from gr00t.serving.wires.places import fields_of

_RAW = "raw"
# Under which name, in which order, each part of an array is written.
_VLA_EVAL = {"__ndarray__": "mark", "data": "data", "dtype": "dtype", "shape": "shape"}
_OPENPI = {name.encode(): part for name, part in _VLA_EVAL.items()}
_MSGPACK_NUMPY = {b"nd": "mark", b"type": "dtype", b"kind": "kind", b"shape": "shape", b"data": "data"}


@dataclass(frozen=True)
class EncodedImage:
    """An image as it travelled.

    Attributes:
        form: `png` or `jpeg`.
        data: the bytes of such a file.
        shape: (height, width, channels), as the sender says.
    """

    form: str
    data: bytes
    shape: tuple[int, ...]


def encode_openpi(value: Any) -> Any:
    """Return an array as openpi writes it; for msgpack's `default`."""
    return _write(value, _OPENPI)


def encode_vla_eval(value: Any) -> Any:
    """Return an array as vla-eval writes it; for msgpack's `default`."""
    return _write(value, _VLA_EVAL)


def encode_msgpack_numpy(value: Any) -> Any:
    """Return an array as the package msgpack-numpy writes it; for msgpack's `default`."""
    return _write(value, _MSGPACK_NUMPY)


def read_openpi(entries: list[tuple[Any, Any]]) -> Any:
    """Return what a map of openpi's stands for: an array, a number, or itself.

    Raises:
        WireError: No such array; a key that is no text.
    """
    fields = fields_of(entries)
    if b"__ndarray__" in fields:
        return read_array(fields.get(b"dtype"), fields.get(b"shape"), fields.get(b"data"))
    if b"__npgeneric__" in fields:
        return _scalar(fields.get(b"dtype"), fields.get(b"data"))
    return _with_text_keys(fields)


def read_vla_eval(entries: list[tuple[Any, Any]]) -> Any:
    """Return what a map of vla-eval's stands for: an array, an EncodedImage, or itself.

    Raises:
        WireError: No such array or image; a key that is no text.
    """
    fields = _with_text_keys(fields_of(entries))
    if "__image__" in fields:
        return _image(fields)
    if "__ndarray__" in fields:
        return read_array(fields.get("dtype"), fields.get("shape"), fields.get("data"))
    return fields


def read_either(entries: list[tuple[Any, Any]]) -> Any:
    """Return what a map stands for that NVIDIA's N1.5 to N1.7 may have sent: their wire has had both forms.

    Raises:
        WireError: No such array; a key that is no text.
    """
    fields = dict(entries)
    if b"nd" not in fields:
        decoded = decode_map(entries)
        return _with_text_keys(decoded) if isinstance(decoded, dict) else decoded
    fields = fields_of(entries)
    if fields.get(b"kind") not in (None, b"", ""):
        raise WireError(f"array: kind {fields[b'kind']!r:.60}: objects and records are not read")
    if fields[b"nd"]:
        return read_array(fields.get(b"type"), fields.get(b"shape"), fields.get(b"data"))
    return read_array(fields.get(b"type"), [], fields.get(b"data"))[()]


def _write(value: Any, names: Mapping[Any, str]) -> Any:
    """Return an array as a map of its parts, under the given names in their order; others as they are."""
    value = simplify(value)
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype.kind not in "biuf":
        raise TypeError(f"can not serialize an array of {value.dtype}")
    parts = {
        "mark": True,
        "data": value.tobytes(),
        "dtype": value.dtype.str,
        "shape": list(value.shape),
        "kind": b"",
    }
    return {name: parts[part] for name, part in names.items()}


def read_array(descr: Any, shape: Any, data: Any) -> np.ndarray:
    """Return the array that a dtype's name, a list of sizes and bytes describe.

    Raises:
        WireError: One of them is something else, or they do not fit each other.
    """
    if not isinstance(descr, str):
        raise WireError(f"array: dtype must be text, got {type(descr).__name__}")
    if not isinstance(data, bytes):
        raise WireError(f"array: data must be bytes, got {type(data).__name__}")
    return build_array(descr, _sizes(shape), data)


def _sizes(shape: Any) -> tuple[int, ...]:
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise WireError(f"array: shape must be a list of sizes, got {shape!r:.200}")
    return tuple(shape)


def _scalar(descr: Any, value: Any) -> Any:
    """Return a number of numpy's, which travels as one of msgpack's beside its type."""
    if not isinstance(descr, str) or not isinstance(value, (bool, int, float, str)):
        raise WireError(f"number: {value!r:.60} of type {descr!r:.60}")
    return value


def _image(fields: dict[str, Any]) -> EncodedImage | np.ndarray:
    form, data = fields.get("format"), fields.get("data")
    if form == _RAW:
        return read_array(fields.get("dtype"), fields.get("shape"), data)
    if form not in ("png", "jpeg"):
        raise WireError(f"image: format must be png, jpeg or raw, got {form!r:.60}")
    if not isinstance(data, bytes):
        raise WireError(f"image: data must be bytes, got {type(data).__name__}")
    return EncodedImage(form, data, _sizes(fields.get("shape")))


def _with_text_keys(fields: dict[Any, Any]) -> dict[Any, Any]:
    """Return a map that stands for itself, if its keys are texts; numbers of msgpack's are no names."""
    for key in fields:
        if not isinstance(key, str):
            raise WireError(f"a map has the key {key!r:.60}; keys are texts")
    return fields
