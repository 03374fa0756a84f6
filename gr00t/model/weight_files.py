"""Which tensors a checkpoint folder holds, from the headers of its safetensors files alone.

A safetensors file starts with the length of its header (8 bytes, little endian) and the header, a JSON
object of dtype, shape and byte range by tensor name; the data follow. The headers are read here rather than
through the library so that a damaged file is reported with the tensor that is damaged.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path

from gr00t.model.json_section import CheckpointError, read_json

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
# Only in quantized layers: codes, scales of blocks, permutations, flags.
_INTEGER_BYTES = {"I32": 4, "I8": 1, "U8": 1, "BOOL": 1}


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a checkpoint: the file it is in, its shape, and its dtype as safetensors calls it."""

    file: Path
    shape: tuple[int, ...]
    dtype: str

    @property
    def is_float(self) -> bool:
        """Whether it holds floating-point numbers."""
        return self.dtype in _BYTES

    @property
    def nbytes(self) -> int:
        """Bytes of its data."""
        return math.prod(self.shape) * (_BYTES | _INTEGER_BYTES)[self.dtype]


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """All tensors of a checkpoint folder by NVIDIA's name.

    Raises:
        CheckpointError: there are no weights, the index and the files disagree, or a file is damaged.
    """
    index = folder / INDEX_FILE
    if not index.exists():
        if not (folder / WEIGHTS_FILE).exists():
            raise CheckpointError(f"{folder} has no weights: neither {WEIGHTS_FILE} nor {INDEX_FILE}")
        return _read_header(folder / WEIGHTS_FILE)
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict):
        raise CheckpointError(f"{index}: weight_map must be an object, got {weight_map!r}")
    found: dict[str, StoredTensor] = {}
    for shard in sorted({str(file) for file in weight_map.values()}):
        expected = [name for name, file in weight_map.items() if file == shard]
        if not (folder / shard).is_file():
            raise CheckpointError(f"{index} names {shard} (for {expected[0]}), which is not in {folder}")
        entries = _read_header(folder / shard)
        absent = [name for name in expected if name not in entries]
        if absent:
            raise CheckpointError(f"{index} says that {absent[0]} is in {shard}, but it is not")
        found.update(entries)
    return found


def _read_header(file: Path) -> dict[str, StoredTensor]:
    """The tensors of one safetensors file, whose data must all be there."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        prefix = stream.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else size
        if 8 + length > size:
            raise CheckpointError(
                f"{file}: truncated or no safetensors file: {size} bytes end within its header"
            )
        try:
            header = json.loads(stream.read(length))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{file}: corrupt header ({error})") from None
    if not isinstance(header, dict):
        raise CheckpointError(f"{file}: corrupt header (not a JSON object)")
    header.pop("__metadata__", None)
    return {name: _read_entry(file, name, entry, size - 8 - length) for name, entry in header.items()}


def _read_entry(file: Path, name: str, entry: object, data_bytes: int) -> StoredTensor:
    """Check one entry of a header against the bytes that follow it."""
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(start), int(end)]}:
            pass
        case _:
            raise CheckpointError(f"{file}: corrupt header at {name}: {entry!r}")
    if dtype not in _BYTES and dtype not in _INTEGER_BYTES:
        raise CheckpointError(f"{file}: {name} has dtype {dtype}; supported: {', '.join(_BYTES)}")
    if end > data_bytes:
        raise CheckpointError(
            f"{file}: truncated: {name} ends at byte {end} of the data, of which {data_bytes} are there"
        )
    stored = StoredTensor(file, tuple(shape), dtype)
    if end - start != stored.nbytes:
        raise CheckpointError(
            f"{file}: corrupt header at {name}: {end - start} bytes for shape {shape} of {dtype}"
        )
    return stored
