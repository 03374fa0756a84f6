"""Tensors of a safetensors file in memory of their own: whatever happens to the file later, they stay.

Mapped tensors are not: who writes over the file changes them, and who shortens it kills the process by SIGBUS
when it next looks at one. So what was checked is read once, into this process, and hashed on the way.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container
from pathlib import Path

import torch
from torch import Tensor

from gr00t.quantization.file_header import ArtefactError, Header, in_order, parse_header

DTYPES = {
    **{"F64": torch.float64, "I64": torch.int64, "F32": torch.float32, "I32": torch.int32},
    **{"F16": torch.float16, "BF16": torch.bfloat16, "I16": torch.int16},
    **{"I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool},
}
_SKIPPED_AT_A_TIME = 1 << 22


def read_tensors(
    path: Path,
    wanted: Container[str] | None = None,
    see: Callable[[memoryview], object] | None = None,
) -> tuple[Header, dict[str, Tensor]]:
    """Read a safetensors file from its first byte to its last, once.

    Args:
        path: of the file.
        wanted: names of the tensors to keep; None: all of them.
        see: called with the bytes of the tensors, piece by piece in their order, also of those not wanted.

    Returns:
        The header and the tensors, each in its own memory.

    Raises:
        ArtefactError: the file is truncated, also while it is read, or its header is damaged.
        OSError: it cannot be read.
    """
    found: dict[str, Tensor] = {}
    with path.open("rb") as file:
        header = parse_header(file, os.fstat(file.fileno()).st_size, path)
        for name in in_order(header.tensors):
            entry = header.tensors[name]
            first, end = entry["data_offsets"]
            keep = wanted is None or name in wanted
            size = end - first if keep else min(end - first, _SKIPPED_AT_A_TIME)
            tensor = torch.empty(size, dtype=torch.uint8)
            view = memoryview(tensor.numpy().data)
            left = end - first
            while left:
                piece = view[: min(left, size)]
                if file.readinto(piece) != len(piece):
                    raise ArtefactError(f"{path}: truncated while it was read")
                if see is not None:
                    see(piece)
                left -= len(piece)
            if keep:
                found[name] = tensor.view(DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return header, found
