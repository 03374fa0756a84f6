"""The bytes between client and server, equal to those of Isaac-GR00T N1.5's own service.

A message is one msgpack map. Two kinds of value travel as small maps of their own:

    array            {"__ndarray_class__": true, "as_npy": <bytes of a .npy file>}
    ModalityConfig   {"__ModalityConfig_class__": true, "as_json": <its JSON text>}

Whatever arrives is treated as hostile. What a message declares is counted before anything is built
(wires.outline). Array headers are matched, not evaluated, and the declared size must be the size that is
there, so a few bytes can neither run code nor ask for a terabyte.

This file and the client run inside the simulator's process: Python 3.8, numpy and msgpack, no torch.
"""

from __future__ import annotations

import io
import json
import re
import struct
import sys
from typing import Any, Callable, List, Optional, Tuple

import msgpack
import numpy as np

from gr00t.serving.wires.foreign import name_message
from gr00t.serving.wires.outline import MAX_VALUES, WireError, outline
from gr00t.serving.wires.places import Undecodables, fields_of, write_place

__all__ = [
    "BUSY",
    "MAX_VALUES",
    "STOPPING",
    "MsgSerializer",
    "PackError",
    "WireError",
    "build_array",
    "decode",
    "decode_map",
    "encode",
    "pack",
    "simplify",
    "unpack",
    "what_cannot_be_sent",
]

# How the text of two error replies begins. Any other refuses the request itself; after these the same request
# may be sent again: to this server later, or to the one that follows it.
BUSY = "busy: "
STOPPING = "stopping: "

_LAST = sys.maxunicode  # numpy makes texts of what lies beyond, too, and Python's are broken by it
_MAX_PATH = 8  # how deep a value that cannot be sent is looked for
_MAX_DIMENSIONS = 32  # as numpy 1 has; of a list of a million sizes the product alone takes hours
_NPY_MAGIC = b"\x93NUMPY"
_PLAIN = r"[<>|=]?[biufcSU]\d{1,9}"
_DESCR = re.compile(rf"""['"]descr['"]\s*:\s*['"]({_PLAIN})['"]""")
_FORTRAN = re.compile(r"""['"]fortran_order['"]\s*:\s*(True|False)""")
_SHAPE = re.compile(r"""['"]shape['"]\s*:\s*\(([\d\s,]{0,400})\)""")


class PackError(TypeError):
    """A value that cannot be sent; the text says under which key it stands."""


def pack(message: Any, default: Optional[Callable[[Any], Any]] = None) -> bytes:
    """Encode a message: maps, lists, text, numbers, arrays and ModalityConfigs.

    A number of numpy is sent as one of Python, a torch tensor as an array, an RGB image of PIL as an array
    (height, width, 3).

    Args:
        message: What is to be sent.
        default: How another wire writes what msgpack does not know, in place of this one's way.

    Raises:
        PackError: A value of another type, or an array of Python objects.
    """
    try:
        packed: bytes = msgpack.packb(message, default=default or encode)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise PackError(what_cannot_be_sent(message, error)) from None
    return packed


def unpack(payload: bytes) -> Any:
    """Decode a message; arrays come back writable, in the dtype and memory order they were sent in.

    Raises:
        WireError: Not msgpack, truncated, followed by other bytes, more of anything than a message needs
            (`outline.walk`), or an array that is not a plain .npy.
    """
    try:
        outline(payload)
    except WireError:
        foreign = name_message(payload)
        if foreign is None:
            raise
        raise WireError(foreign) from None
    return decode(payload)


def decode(
    part: bytes | memoryview, read_map: Optional[Callable[[List[Tuple[Any, Any]]], Any]] = None
) -> Any:
    """Decode a message, or a value out of one, that `outline.walk` has gone over already.

    Args:
        part: Its bytes.
        read_map: What another wire's maps stand for, given their entries; this one's `decode_map` if None.

    Raises:
        WireError: A text that is not UTF-8, a map key that is no text, or an array that is no plain .npy.
    """
    faults = Undecodables()
    try:
        message = msgpack.unpackb(
            part, object_pairs_hook=faults.kept(read_map or decode_map), list_hook=_as_it_is
        )
    except ValueError as error:
        raise WireError(f"not a msgpack message: {str(error) or 'invalid byte'}") from None
    faults.check(message)
    return message


class MsgSerializer:
    """`pack` and `unpack` under the names that Isaac-GR00T N1.5 gives them."""

    @staticmethod
    def to_bytes(data: Any) -> bytes:
        """Return `pack(data)`."""
        return pack(data)

    @staticmethod
    def from_bytes(data: bytes) -> Any:
        """Return `unpack(data)`."""
        return unpack(data)


def simplify(value: Any) -> Any:
    """Return the number or array that a value of numpy, torch or PIL stands for; others as they are."""
    if isinstance(value, (np.bool_, np.integer, np.floating)) and not isinstance(value, np.longdouble):
        return value.item()
    if isinstance(value, np.ma.MaskedArray):
        if np.ma.is_masked(value):
            raise TypeError("an array with masked entries; send array.filled(...)")
        return value.data
    # Where nobody has imported torch or PIL there is nothing of theirs to send.
    torch, images = sys.modules.get("torch"), sys.modules.get("PIL.Image")
    if torch is not None and isinstance(value, torch.Tensor):
        tensor = value.detach().cpu()
        # numpy has no bfloat16; every one of its numbers is one of float32.
        return (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy()
    if images is not None and isinstance(value, images.Image) and value.mode == "RGB":
        return np.asarray(value)
    return value


def encode(value: Any) -> Any:
    """Return an array or a ModalityConfig as a map of this wire's; for msgpack's `default`."""
    value = simplify(value)
    if isinstance(value, np.ndarray):
        buffer = io.BytesIO()
        np.save(buffer, value, allow_pickle=False)
        return {"__ndarray_class__": True, "as_npy": buffer.getvalue()}
    # Where nobody has imported ModalityConfig there is none to send: a simulator needs no pydantic.
    dataset = sys.modules.get("gr00t.data.dataset")
    if dataset is not None and isinstance(value, dataset.ModalityConfig):
        return {"__ModalityConfig_class__": True, "as_json": value.model_dump_json()}
    return value  # msgpack then names the type that it cannot serialize


def what_cannot_be_sent(message: Any, error: Exception) -> str:
    """Return where in a message the value stands that made packing fail, and what is wrong with it."""
    names: list[Any] = []
    inner = [message]
    while inner and len(names) < _MAX_PATH:
        value = inner.pop()
        parts = value.items() if isinstance(value, dict) else enumerate(value if _is_list(value) else ())
        for name, part in parts:
            try:
                msgpack.packb(part, default=encode)
            except (TypeError, ValueError, OverflowError, RecursionError) as fault:
                error = fault
                names.append(name if _is_list(value) else str(name))
                inner.append(part)
                value = part
                break
    what = str(error) or type(error).__name__
    mode = getattr(value, "mode", None)
    if isinstance(mode, str):
        what += f" of mode {mode!r}; send image.convert('RGB')"
    return f"{write_place(names) or 'message'}: cannot be sent: {what}"


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _as_it_is(values: Any) -> Any:
    """Return a list: a call, however short, is where other threads get their turn in a long decoding."""
    return values


def decode_map(entries: list[tuple[Any, Any]]) -> Any:
    """Return what a map stands for: an array, a ModalityConfig, or itself.

    Raises:
        WireError: It is none of a kind that it says it is, or has a key twice.
    """
    fields = fields_of(entries)
    if "__ndarray_class__" in fields:
        return _array_from_npy(fields.get("as_npy"))
    if "__ModalityConfig_class__" in fields:
        from gr00t.data.dataset import ModalityConfig

        as_json = fields.get("as_json")
        if not isinstance(as_json, str):  # bytes may be as long as the message, and JSON grows twentyfold
            raise WireError(f"ModalityConfig: as_json must be text, got {type(as_json).__name__}")
        try:
            return ModalityConfig(**json.loads(as_json))
        except (TypeError, ValueError, RecursionError) as error:
            raise WireError(f"ModalityConfig: as_json is not one: {error!r:.200}") from None
    return fields


def _array_from_npy(npy: Any) -> np.ndarray:
    if not isinstance(npy, bytes):
        raise WireError(f"array: as_npy must be the bytes of a .npy file, got {type(npy).__name__}")
    # Version 1 has a two-byte header length, versions 2 and 3 have four bytes.
    wide = len(npy) > 6 and npy[6] > 1
    start = 12 if wide else 10
    if not npy.startswith(_NPY_MAGIC) or len(npy) < start:
        raise WireError("array: as_npy does not begin like a .npy file")
    data_at = start + struct.unpack_from("<I" if wide else "<H", npy, 8)[0]
    header = npy[start : min(data_at, start + 10_000)].decode("latin1")
    descr, fortran, shape_text = _DESCR.search(header), _FORTRAN.search(header), _SHAPE.search(header)
    if not (descr and fortran and shape_text):
        raise WireError(
            "array: a plain boolean, integer, float, complex or text array is expected, "
            f"not object arrays, pickles or records; its header is {header.strip()!r:.200}"
        )
    shape = tuple(int(size) for size in shape_text.group(1).replace(",", " ").split())
    return build_array(descr.group(1), shape, npy, data_at, "F" if fortran.group(1) == "True" else "C")


def build_array(
    descr: str, shape: tuple[int, ...], buffer: bytes, data_at: int = 0, order: Any = "C"
) -> np.ndarray:
    """Return an array of its own from the bytes that begin at `data_at` and end with the buffer.

    Raises:
        WireError: Not a plain type, too many dimensions, or not as many bytes as type and shape take.
    """
    if not re.fullmatch(_PLAIN, descr):
        raise WireError(
            f"array: {descr!r:.100} is none of the plain types: boolean, integer, float, complex, text"
        )
    if len(shape) > _MAX_DIMENSIONS:
        raise WireError(f"array: {len(shape)} dimensions; at most {_MAX_DIMENSIONS} are accepted")
    got = len(buffer) - data_at
    try:
        dtype = np.dtype(descr)
        expected = dtype.itemsize
        for size in shape:
            expected *= size
        if dtype.itemsize == 0 or expected != got:
            raise WireError(f"array: {descr} of shape {shape!r:.200} takes {expected} bytes, got {got}")
        if (
            dtype.kind == "U"
            and (np.frombuffer(buffer, f"{dtype.byteorder}u4", offset=data_at) > _LAST).any()
        ):
            raise WireError(f"array: {descr} with characters that are none")
        view = np.ndarray(shape, dtype, buffer=buffer, offset=data_at, order=order)
        return view.copy(order="K")
    except WireError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise WireError(f"array: {descr} of shape {shape!r:.200}: {error}") from None
