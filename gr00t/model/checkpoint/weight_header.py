"""What one safetensors file says that it holds, from its header alone.

A safetensors file starts with the length of its header (8 bytes, little endian) and the header, a JSON
object of dtype, shape and byte range by tensor name; the data follow. The headers are read here rather than
through the library so that a damaged file is reported with the tensor that is damaged.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path

from gr00t.model.checkpoint.json_section import LFS_POINTER, CheckpointError, refuse_special
from gr00t.strict_json import parse_json

_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
# No weight of ours: codes, block scales, permutations and flags of quantized layers, and buffers that some
# program saved along. Whether such a tensor may be there is for `checkpoint` to say, who knows its name.
_OTHER_BYTES = {
    **{"I64": 8, "U64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1},
    **{"F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "C64": 8},
}
# The safetensors library reads no longer header either.
_LONGEST_HEADER = 100_000_000


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a checkpoint: the file it is in, its shape, and its dtype as safetensors calls it.

    `key` is its name in the file, which need not be the one that the model knows it by.
    """

    file: Path
    shape: tuple[int, ...]
    dtype: str
    key: str

    @property
    def is_float(self) -> bool:
        """Whether it holds floating-point numbers."""
        return self.dtype in _BYTES

    @property
    def nbytes(self) -> int:
        """Bytes of its data."""
        return math.prod(self.shape) * (_BYTES | _OTHER_BYTES)[self.dtype]


def read_header(file: Path) -> dict[str, StoredTensor]:
    """The tensors of one safetensors file, whose data must all be there.

    A tensor that the model has twice, such as tied embeddings, may be stored once: the file's metadata then
    has the other name and the one that is stored. Both are returned.

    Raises:
        CheckpointError: the file cannot be read, is damaged, or holds a dtype that is not supported.
    """
    try:
        refuse_special(file)
        size = file.stat().st_size
        with file.open("rb") as stream:
            start = stream.read(len(LFS_POINTER))
            length = struct.unpack("<Q", start[:8])[0] if len(start) >= 8 else size
            stream.seek(8)
            text = stream.read(length) if 8 + length <= size and length <= _LONGEST_HEADER else b""
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror})") from None
    if start == LFS_POINTER:
        raise CheckpointError(f"{file} is a pointer of Git LFS, not the weights; run: git lfs pull")
    if 8 + length > size:
        raise CheckpointError(f"{file}: truncated or no safetensors file: {size} bytes end within its header")
    if length > _LONGEST_HEADER:
        raise CheckpointError(
            f"{file}: corrupt header ({length:,} bytes, expected at most {_LONGEST_HEADER:,})"
        )
    try:
        header = parse_json(text.decode("utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{file}: corrupt header ({error})") from None
    if not isinstance(header, dict):
        raise CheckpointError(f"{file}: corrupt header (not a JSON object)")
    metadata = header.pop("__metadata__", None)
    found = {name: _read_entry(file, name, entry, size - 8 - length) for name, entry in header.items()}
    tied = metadata.items() if isinstance(metadata, dict) else ()
    return {other: found[name] for other, name in tied if name in header and other not in header} | found


def _read_entry(file: Path, name: str, entry: object, data_bytes: int) -> StoredTensor:
    """Check one entry of a header against the bytes that follow it."""
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [start, end]} if all(
            type(number) is int and number >= 0 for number in (*shape, start, end)
        ):
            pass
        case _:
            raise CheckpointError(f"{file}: corrupt header at {name}: {entry!r}")
    if dtype not in _BYTES and dtype not in _OTHER_BYTES:
        raise CheckpointError(f"{file}: {name} has dtype {dtype}; supported: {', '.join(_BYTES)}")
    if end > data_bytes:
        raise CheckpointError(
            f"{file}: truncated: {name} ends at byte {end} of the data, of which {data_bytes} are there"
        )
    stored = StoredTensor(file, tuple(shape), dtype, name)
    if end - start != stored.nbytes:
        raise CheckpointError(
            f"{file}: corrupt header at {name}: {end - start} bytes for shape {shape} of {dtype}"
        )
    return stored
