"""Float layers of a served model, laid out for this processor while their weights are read.

Read first and laid out later, each weight had memory of its own twice; read into memory that the next one
takes as well, it has it once.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Container, Iterator
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor, nn

from gr00t.model.checkpoint.folder import is_finite
from gr00t.model.checkpoint.json_section import CheckpointError
from gr00t.model.network.model import Gr00tModel
from gr00t.model.network.packed_linear import PackedLinear, can_pack, pack_weight


class PackedPart:
    """Packs the weight of an `nn.Linear`, which is not kept as it was read."""

    def __init__(self, layer: str, linear: nn.Linear) -> None:
        self._layer = layer
        self._wanted, self._expected = linear.weight.dtype, tuple(linear.weight.shape)
        self._packed: Tensor | None = None

    def begin(self, file: BinaryIO, path: Path, shape: tuple[int, ...], dtype: torch.dtype) -> int:
        """All of it at once."""
        self._path, self._shape, self._dtype = path, shape, dtype
        return max(1, math.prod(shape) * dtype.itemsize)

    def take(self, piece: memoryview, digest: hashlib._Hash) -> None:
        """Pack it; one of another shape is for whoever compares all shapes."""
        if self._shape != self._expected:
            return
        weight = torch.frombuffer(piece, dtype=self._dtype).reshape(self._shape).to(self._wanted)
        self._is_finite = is_finite(weight)
        self._packed = pack_weight(weight)

    def end(self, digest: hashlib._Hash) -> Tensor:
        """Shape and dtype."""
        return torch.empty(self._shape, dtype=self._dtype, device="meta")

    def place(self, model: Gr00tModel) -> None:
        """Put the packed layer into the model, where the weight passed by."""
        if self._packed is None:
            raise CheckpointError(f"{self._layer}: its weight was not read")
        if not self._is_finite:
            raise CheckpointError(f"{self._path}: {self._layer} holds inf or NaN")
        parent, _, child = self._layer.rpartition(".")
        holder = model.get_submodule(parent)
        setattr(holder, child, PackedLinear(getattr(holder, child), self._packed))


def packed_parts(model: nn.Module, left_out: Container[str]) -> Iterator[tuple[str, PackedPart]]:
    """Yield, by layer, who packs the weights of the float layers of a model on `meta`.

    Args:
        model: whose linears in bfloat16 are packed, where that pays.
        left_out: layers that are no float ones.
    """
    if can_pack():
        for layer, module in model.named_modules():
            if type(module) is nn.Linear and module.weight.dtype == torch.bfloat16 and layer not in left_out:
                yield layer, PackedPart(layer, module)
