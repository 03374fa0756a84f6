"""The header of a safetensors file, read strictly: what does not add up is an error that names the file.

Such a file is the length of its header (8 bytes, little endian), the header, a JSON object with dtype, shape
and byte range of every tensor and with the file's metadata, and the tensors' bytes, without gaps. The
library's own reader takes the last of two entries of the same name, tells no byte ranges, which the hash of
an artefact covers, and names no tensor in some of its errors. Imports no torch.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from gr00t.strict_json import parse_json

# Bytes of an element by dtype, as safetensors calls it.
FLOAT_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
DTYPE_BYTES = {
    **FLOAT_BYTES,
    **{"I64": 8, "U64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1},
    **{"F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "C64": 8},
}
# The safetensors library reads no longer header either.
_LONGEST = 100_000_000


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


def parse_header(file: BinaryIO, size: int, path: Path, error: type[ValueError]) -> Header:
    """Read the header of a safetensors file, whose tensors must all be there.

    Args:
        file: open at its start, and afterwards at the bytes of its tensors.
        size: bytes of the file.
        path: of the file, which every error names.
        error: raised where the file is truncated, or its header is damaged.

    Raises:
        OSError: it cannot be read.
    """
    prefix = file.read(8)
    length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else size
    if 8 + length > size:
        raise error(f"{path}: truncated or no safetensors file: {size} bytes end within its header")
    if length > _LONGEST:
        raise error(f"{path}: corrupt header ({length:,} bytes, expected at most {_LONGEST:,})")
    text = file.read(length)
    try:
        tensors = parse_json(text)
        if not isinstance(tensors, dict):
            raise ValueError("not a JSON object")
        metadata = tensors.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("its metadata are not texts by name")
    except ValueError as why:
        raise error(f"{path}: corrupt header ({why})") from None
    for name, entry in tensors.items():
        if not _is_entry(entry):
            raise error(f"{path}: corrupt header at {name}: {entry!r:.200}")
        dtype, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        if dtype not in DTYPE_BYTES:
            raise error(f"{path}: {name} has dtype {dtype:.20}; supported: {', '.join(DTYPE_BYTES)}")
        if end - start != math.prod(shape) * DTYPE_BYTES[dtype]:
            raise error(f"{path}: corrupt header at {name}: {end - start} bytes for shape {shape} of {dtype}")
    there, reached = size - 8 - length, 0
    for name in in_order(tensors):
        start, end = tensors[name]["data_offsets"]
        if start != reached:
            raise error(
                f"{path}: corrupt header at {name}: its bytes begin at {start}, those before end at {reached}"
            )
        if end > there:
            raise error(
                f"{path}: truncated: {name} ends at byte {end} of the data, of which {there} are there"
            )
        reached = end
    if reached < there:
        raise error(f"{path}: longer than its header says: {there} bytes of data, expected {reached}")
    return Header(tensors, metadata, prefix + text)


def in_order(tensors: dict[str, dict[str, Any]]) -> list[str]:
    """Names of the tensors in the order that their bytes stand in."""
    return sorted(tensors, key=lambda name: tensors[name]["data_offsets"])


def _is_entry(entry: Any) -> bool:
    match entry:
        case {"dtype": str(), "shape": list(shape), "data_offsets": [start, end], **more}:
            numbers = (*shape, start, end)
            return not more and all(type(number) is int and 0 <= number < 2**63 for number in numbers)
    return False
