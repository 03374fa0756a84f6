"""Tensors of a safetensors file in memory of their own: whatever happens to the file later, they stay.

Mapped tensors are not: who writes over the file changes them, and who shortens it kills the process by SIGBUS
when it next looks at one. So what was checked is read once, into this process, and hashed on the way.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from gr00t.files.safetensors_header import Header, in_order, parse_header
from gr00t.quantization.checkpoint.checksums import ArtefactError

DTYPES = {
    **{"F64": torch.float64, "I64": torch.int64, "F32": torch.float32, "I32": torch.int32},
    **{"F16": torch.float16, "BF16": torch.bfloat16, "I16": torch.int16},
    **{"I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool},
}


def read_tensors(
    path: Path, watch: Callable[[Header], Callable[[memoryview], object]] | None = None
) -> tuple[Header, dict[str, Tensor]]:
    """Read a safetensors file from its first byte to its last, once.

    Args:
        path: of the file.
        watch: called with the header; what it returns is called with the bytes of one tensor after the other.

    Returns:
        The header and the tensors, each in its own memory.

    Raises:
        ArtefactError: the file is truncated, also while it is read, or its header is damaged.
        OSError: it cannot be read.
    """
    found: dict[str, Tensor] = {}
    with path.open("rb") as file:
        header = parse_header(file, os.fstat(file.fileno()).st_size, path, ArtefactError)
        see = None if watch is None else watch(header)
        for name in in_order(header.tensors):
            entry = header.tensors[name]
            if entry["dtype"] not in DTYPES:
                raise ArtefactError(
                    f"{path}: {name} is {entry['dtype']}, expected one of {', '.join(DTYPES)}"
                )
            first, end = entry["data_offsets"]
            tensor = _memory(path, name, end - first)
            view = memoryview(tensor.numpy().data)
            if file.readinto(view) != len(view):
                raise ArtefactError(f"{path}: truncated while it was read")
            if see is not None:
                see(view)
            found[name] = tensor.view(DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return header, found


def _memory(path: Path, name: str, size: int) -> Tensor:
    try:
        return torch.empty(size, dtype=torch.uint8)
    except RuntimeError as error:
        raise ArtefactError(f"{path}: no memory for the {size:,} bytes of {name}") from error
