"""The header of a safetensors file, read strictly: what does not add up is an error that names the file.

Such a file is the length of its header (8 bytes, little endian), the header, a JSON object with dtype, shape
and byte range of every tensor and with the file's metadata, and the tensors' bytes, without gaps. Imports no
torch.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from gr00t.strict_json import parse_json

# Bytes of an element of every dtype that is ever stored.
ELEMENT_BYTES = {
    **{"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2},
    **{"I8": 1, "U8": 1, "BOOL": 1},
}


class ArtefactError(ValueError):
    """An artefact that cannot be used, or not be made; the message names the file and what is wrong."""


class Header(NamedTuple):
    """The header of a safetensors file.

    Attributes:
        tensors: dtype, shape and byte range by tensor name.
        metadata: the file's own entries.
        text: the bytes that it is read from, from the file's first one on.
    """

    tensors: dict[str, dict[str, Any]]
    metadata: dict[str, str]
    text: bytes

    @property
    def start(self) -> int:
        """Where the tensors' bytes begin in the file."""
        return len(self.text)


def read_header(path: Path) -> Header:
    """Read the header of a safetensors file, whose tensors must all be there.

    Raises:
        ArtefactError: the file is truncated, or its header is damaged.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return parse_header(file, path.stat().st_size, path)


def parse_header(file: BinaryIO, size: int, path: Path) -> Header:
    """As `read_header`, from a file of `size` bytes, open at its start and afterwards at its tensors."""
    prefix = file.read(8)
    length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else size
    if 8 + length > size:
        raise ArtefactError(f"{path}: truncated: its {size} bytes end within the header")
    text = file.read(length)
    try:
        tensors = parse_json(text)
        if not isinstance(tensors, dict):
            raise ValueError("not a JSON object")
        metadata = tensors.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("its metadata are not texts by name")
        end = _end_of(tensors)
    except ValueError as error:
        raise ArtefactError(f"{path}: damaged header ({error})") from None
    needed = 8 + length + end
    if size != needed:
        fault = "truncated" if size < needed else "longer than its header says"
        raise ArtefactError(f"{path}: {fault}: {size} bytes of {needed}")
    return Header(tensors, metadata, prefix + text)


def in_order(tensors: dict[str, dict[str, Any]]) -> list[str]:
    """Names of the tensors in the order that their bytes stand in."""
    return sorted(tensors, key=lambda name: tensors[name]["data_offsets"])


def _end_of(tensors: dict[str, Any]) -> int:
    """Check all entries; return where the bytes of the last tensor end."""
    for name, entry in tensors.items():
        match entry:
            case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [start, end]} if len(entry) == 3:
                pass
            case _:
                raise ValueError(f"at {name}: not dtype, shape and data_offsets")
        if dtype not in ELEMENT_BYTES:
            raise ValueError(f"at {name}: dtype {dtype[:20]!r}, expected one of {', '.join(ELEMENT_BYTES)}")
        if not all(type(number) is int and 0 <= number < 2**63 for number in (*shape, start, end)):
            raise ValueError(f"at {name}: shape and data_offsets must be whole numbers")
        if end - start != math.prod(shape) * ELEMENT_BYTES[dtype]:
            raise ValueError(f"at {name}: {end - start} bytes for shape {shape} of {dtype}")
    reached = 0
    for name in in_order(tensors):
        start, end = tensors[name]["data_offsets"]
        if start != reached:
            raise ValueError(f"at {name}: its bytes begin at {start}, those before end at {reached}")
        reached = end
    return reached
