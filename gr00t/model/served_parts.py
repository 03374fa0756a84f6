"""What a server keeps of a model's tables while they are read, of which its requests need few rows.

At full size the weights of 32 embodiments have 0.63 GB, of which a policy uses those of one, and the language
model's embedding has 0.62 GB in 151,680 rows, of which its prompts use some hundred.
Its float linears are packed as they come (`packed_part`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Container, Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from gr00t.files.file_rows import FileRows
from gr00t.model.checkpoint.folder import is_finite, names_of
from gr00t.model.checkpoint.json_section import CheckpointError
from gr00t.model.network.embodiment import EmbodimentLinear
from gr00t.model.network.model import Gr00tModel
from gr00t.model.network.served_tables import ServedEmbedding, ServedEmbodiment
from gr00t.model.packed_part import PackedPart, packed_parts

_EMBEDDING = "backbone.language_model.embed_tokens"


class EmbeddingPart:
    """Leaves the rows of an `nn.Embedding` in their file, which stays open."""

    def __init__(self, layer: str, dtype: torch.dtype) -> None:
        self._layer, self._wanted = layer, dtype
        self._rows: FileRows | None = None
        self._is_finite = True

    def begin(self, file: BinaryIO, path: Path, shape: tuple[int, ...], dtype: torch.dtype) -> int:
        """Some rows at a time."""
        self._path, self._shape, self._dtype = path, shape, dtype
        size = max(1, math.prod(shape[1:]) * dtype.itemsize)
        self._rows = FileRows(file, path, shape[0] if shape else 1, size, CheckpointError)
        return self._rows.block_bytes

    def take(self, piece: memoryview, digest: hashlib._Hash) -> None:
        """Keep what they are recognized by."""
        assert self._rows is not None
        self._rows.note(digest)
        self._is_finite &= is_finite(torch.frombuffer(piece, dtype=self._dtype).to(self._wanted))

    def end(self, digest: hashlib._Hash) -> Tensor:
        """Shape and dtype of all of them."""
        assert self._rows is not None
        self._rows.note(digest)
        return torch.empty(self._shape, dtype=self._dtype, device="meta")

    def place(self, model: Gr00tModel) -> None:
        """Put a layer that reads these rows into the model, where the weight passed by."""
        if self._rows is None:
            raise CheckpointError(f"{self._layer}: its rows were not read")
        if not self._is_finite:
            raise CheckpointError(f"{self._path}: {self._layer} holds inf or NaN")
        parent, _, child = self._layer.rpartition(".")
        layer = ServedEmbedding(self._read, self._shape[0], self._shape[1], self._wanted)
        setattr(model.get_submodule(parent), child, layer)

    def _read(self, row: int) -> Tensor:
        assert self._rows is not None
        return torch.frombuffer(self._rows.read(row), dtype=self._dtype).to(self._wanted)


class EmbodimentPart:
    """Keeps one embodiment's rows of the weight of an `EmbodimentLinear`."""

    def __init__(self, layer: str, number: int) -> None:
        self._layer, self._number = layer, number
        self._kept: Tensor | None = None

    def begin(self, file: BinaryIO, path: Path, shape: tuple[int, ...], dtype: torch.dtype) -> int:
        """One embodiment at a time."""
        self._path, self._shape, self._dtype, self._next = path, shape, dtype, 0
        return max(1, math.prod(shape[1:]) * dtype.itemsize)

    def take(self, piece: memoryview, digest: hashlib._Hash) -> None:
        """Keep the one."""
        if self._next == self._number:
            self._kept = torch.frombuffer(piece, dtype=self._dtype).reshape(self._shape[1:]).clone()
        self._next += 1

    def end(self, digest: hashlib._Hash) -> Tensor:
        """Shape and dtype of all of them."""
        return torch.empty(self._shape, dtype=self._dtype, device="meta")

    def place(self, model: Gr00tModel) -> None:
        """Put a layer with these rows alone into the model, where the weight passed by."""
        if self._kept is None:
            raise CheckpointError(f"{self._layer}: nothing was read for embodiment {self._number}")
        parent, _, child = self._layer.rpartition(".")
        holder = model.get_submodule(parent)
        whole = getattr(holder, child)
        weight = self._kept.to(whole.weight.dtype)
        if not is_finite(weight):
            raise CheckpointError(f"{self._path}: {self._layer} holds inf or NaN, embodiment {self._number}")
        setattr(holder, child, ServedEmbodiment(weight, whole.bias[self._number].clone(), self._number))


ServedPart = EmbeddingPart | EmbodimentPart | PackedPart


def served_parts(model: Gr00tModel, embodiment: int, quantized: Container[str] = ()) -> dict[str, ServedPart]:
    """By the name of a tensor in a checkpoint, who is to see it while it is read.

    Args:
        model: on `meta`.
        embodiment: number of the one that will be asked for.
        quantized: layers whose weights are none of a linear's.
    """
    found: dict[str, ServedPart] = {_EMBEDDING: EmbeddingPart(_EMBEDDING, model.dtype)}
    for layer, module in model.named_modules():
        if isinstance(module, EmbodimentLinear):
            found[layer] = EmbodimentPart(layer, embodiment)
    found |= packed_parts(model, quantized)
    names = names_of(model)
    named = {names.to_checkpoint(f"{layer}.weight"): part for layer, part in found.items()}
    return {name: part for name, part in named.items() if name is not None}


def place_parts(model: Gr00tModel, parts: Mapping[str, ServedPart]) -> None:
    """Put what was kept into the model, whose other weights are there.

    Raises:
        CheckpointError: nothing was read, or it holds inf or NaN, or what becomes that in the model's dtype.
    """
    for part in parts.values():
        part.place(model)
