"""What one safetensors file of a checkpoint says that it holds, from its header alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from gr00t.files.lfs_pointer import LFS_POINTER
from gr00t.files.safetensors_header import DTYPE_BYTES, FLOAT_BYTES, parse_header
from gr00t.model.checkpoint.json_section import CheckpointError, refuse_special


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
        return self.dtype in FLOAT_BYTES

    @property
    def nbytes(self) -> int:
        """Bytes of its data."""
        return math.prod(self.shape) * DTYPE_BYTES[self.dtype]


def read_stored_tensors(file: Path) -> dict[str, StoredTensor]:
    """The tensors of one safetensors file, whose data must all be there.

    A tensor that the model has twice, such as tied embeddings, may be stored once: the file's metadata then
    has the other name and the one that is stored. Both are returned.

    Raises:
        CheckpointError: the file cannot be read, is damaged, or holds a dtype that is not supported.
    """
    try:
        refuse_special(file)
        with file.open("rb") as stream:
            if stream.read(len(LFS_POINTER)) == LFS_POINTER:
                raise CheckpointError(f"{file} is a pointer of Git LFS, not the weights; run: git lfs pull")
            stream.seek(0)
            header = parse_header(stream, file.stat().st_size, file, CheckpointError)
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror})") from None
    found = {
        name: StoredTensor(file, tuple(entry["shape"]), entry["dtype"], name)
        for name, entry in header.tensors.items()
    }
    return {
        other: found[name] for other, name in header.metadata.items() if name in found and other not in found
    } | found
