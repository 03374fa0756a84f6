"""Quantized layers as plain safetensors files, which are read into memory of their own: the tensors stay.

Mapped tensors are not: who writes over the file changes them, and who shortens it kills the process by SIGBUS
when it next looks at one. So what was checked is read once, into this process, and hashed on the way.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO, Protocol

import torch
from safetensors.torch import save
from torch import Tensor

from gr00t.files.atomic import atomic_write
from gr00t.files.safetensors_header import Header, in_order, parse_header
from gr00t.quantization.checkpoint.checksums import ArtefactError

DTYPES = {
    **{"F64": torch.float64, "I64": torch.int64, "F32": torch.float32, "I32": torch.int32},
    **{"F16": torch.float16, "BF16": torch.bfloat16, "I16": torch.int16},
    **{"I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool},
}
_METADATA = {"format": "pt"}
_ALIGNMENT = 64


class TensorPart(Protocol):
    """Sees a tensor pass by, piece by piece, which is not kept whole."""

    def begin(self, file: BinaryIO, path: Path, shape: tuple[int, ...], dtype: torch.dtype) -> int:
        """How many bytes are to come at a time, at least one; `file` stands at the tensor's first byte."""
        ...

    def take(self, piece: memoryview, digest: hashlib._Hash) -> None:
        """Keep what is wanted of a piece, which is written over; `digest` is of what comes before it."""
        ...

    def end(self, digest: hashlib._Hash) -> Tensor:
        """What stands for the tensor; `digest` is of all up to its last byte."""
        ...


def read_tensors(
    path: Path,
    begin_hash: Callable[[Header], hashlib._Hash] | None = None,
    parts: Mapping[str, TensorPart] | None = None,
) -> tuple[Header, dict[str, Tensor]]:
    """Read a safetensors file from its first byte to its last, once.

    Args:
        path: of the file.
        begin_hash: called with the header; what it returns goes on by the tensors' bytes, in their order.
        parts: by name of a tensor, who sees it instead of its being kept; not without `begin_hash`.

    Returns:
        The header and the tensors, each in its own memory.

    Raises:
        ArtefactError: the file is truncated, also while it is read, or its header is damaged.
        OSError: it cannot be read.
    """
    found: dict[str, Tensor] = {}
    passing = torch.empty(0, dtype=torch.uint8)
    with path.open("rb") as file:
        header = parse_header(file, os.fstat(file.fileno()).st_size, path, ArtefactError)
        digest = None if begin_hash is None else begin_hash(header)
        for name in in_order(header.tensors):
            entry = header.tensors[name]
            if entry["dtype"] not in DTYPES:
                raise ArtefactError(
                    f"{path}: {name} is {entry['dtype']}, expected one of {', '.join(DTYPES)}"
                )
            first, end = entry["data_offsets"]
            dtype, shape = DTYPES[entry["dtype"]], tuple(entry["shape"])
            if parts is not None and name in parts:
                assert digest is not None
                size = min(parts[name].begin(file, path, shape, dtype), end - first)
                if size > len(passing):
                    passing = _memory(path, name, size)
                buffer = memoryview(passing.numpy().data)[:size]
                _pass_by(file, path, end - first, buffer, parts[name], digest)
                found[name] = parts[name].end(digest)
                continue
            tensor = _memory(path, name, end - first)
            view = memoryview(tensor.numpy().data)
            _fill(view, file, path)
            if digest is not None:
                digest.update(view)
            found[name] = tensor.view(dtype).reshape(shape)
    return header, found


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file; a reader finds the file before it or this one, whole.

    Its header is filled up, so that for who maps the file the rows of the first tensor start at a cache line.

    Raises:
        OSError, SafetensorError: it cannot be written.
    """
    saved = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, _METADATA)
    header = saved[8 : 8 + struct.unpack("<Q", saved[:8])[0]].rstrip()
    data = memoryview(saved)[len(saved) - sum(tensor.nbytes for tensor in tensors.values()) :]
    header += b" " * (-(8 + len(header)) % _ALIGNMENT)
    with atomic_write(path) as aside, aside.open("wb") as file:
        for part in (struct.pack("<Q", len(header)), header, data):
            file.write(part)


def hash_all(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names, dtypes, shapes and bytes of tensors, whatever their order."""
    parts = {
        name: hash_tensor(f"{tensor.dtype}{tuple(tensor.shape)}", tensor) for name, tensor in tensors.items()
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def hash_tensor(prefix: str, tensor: Tensor) -> str:
    """Return the SHA-256 of a text and the bytes of a tensor."""
    digest = hashlib.sha256(prefix.encode())
    digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _pass_by(
    file: BinaryIO, path: Path, left: int, buffer: memoryview, part: TensorPart, digest: hashlib._Hash
) -> None:
    while left:
        piece = buffer[:left]
        _fill(piece, file, path)
        part.take(piece, digest)
        digest.update(piece)
        left -= len(piece)


def _fill(view: memoryview, file: BinaryIO, path: Path) -> None:
    if file.readinto(view) != len(view):  # type: ignore[attr-defined]
        raise ArtefactError(f"{path}: truncated while it was read")


def _memory(path: Path, name: str, size: int) -> Tensor:
    try:
        return torch.empty(size, dtype=torch.uint8)
    except RuntimeError as error:
        raise ArtefactError(f"{path}: no memory for the {size:,} bytes of {name}") from error
