"""Layers that look rows up in a table, without the rows that nobody asks for while a model is served."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ServedTable(nn.Module):
    """A layer that has not all of its weights: it can neither be saved, loaded nor moved."""

    def _save_to_state_dict(self, *_: Any, **__: Any) -> NoReturn:
        raise RuntimeError(_PARTIAL)

    def _load_from_state_dict(self, *_: Any) -> NoReturn:
        raise RuntimeError(_PARTIAL)

    def _apply(self, fn: Any, recurse: bool = True) -> NoReturn:
        raise RuntimeError(_PARTIAL)


_PARTIAL = "this model was loaded to be served, without weights that no request needs: load it anew, whole"


class ServedEmbodiment(ServedTable):
    """`EmbodimentLinear` with the weights of one embodiment: the same numbers.

    Args:
        weight: (in, out), of that embodiment.
        bias: (out,).
        number: of the embodiment.
    """

    def __init__(self, weight: Tensor, bias: Tensor, number: int) -> None:
        super().__init__()
        self.number = number
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)

    def forward(self, x: Tensor, embodiment: Tensor | int) -> Tensor:
        """(B, T, in) and an embodiment id, that of all or of each -> (B, T, out).

        Raises:
            ValueError: another embodiment is asked for.
        """
        asked = {embodiment} if isinstance(embodiment, int) else set(embodiment.tolist())
        if asked != {self.number}:
            got = ", ".join(map(str, sorted(asked)))
            raise ValueError(f"embodiment_id: got {got}, this model serves {self.number} alone")
        weight = self.weight.expand(len(x), -1, -1)
        return torch.baddbmm(self.bias.expand(len(x), 1, -1), x, weight)


class ServedEmbedding(ServedTable):
    """`nn.Embedding` whose rows are read when they are first asked for, and kept: the same numbers.

    Args:
        read: one row (width,) by its number; several threads may wait for it.
        count: of rows.
        width: of a row.
        dtype: of the rows.
    """

    _table: Tensor
    _places: Tensor

    def __init__(self, read: Callable[[int], Tensor], count: int, width: int, dtype: torch.dtype) -> None:
        super().__init__()
        self._read = read
        self._lock = threading.Lock()
        self.register_buffer("_table", torch.empty(0, width, dtype=dtype), persistent=False)
        self.register_buffer("_places", torch.full((count,), -1, dtype=torch.int32), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """(...) int64 -> (..., width); raises what `read` raises."""
        places = self._places[ids]
        if bool((places < 0).any()):
            self._fetch(ids)
            places = self._places[ids]
        return F.embedding(places, self._table)

    def _fetch(self, ids: Tensor) -> None:
        with self._lock:
            absent = [row for row in ids.unique().tolist() if self._places[row] < 0]
            if not absent:
                return
            first = len(self._table)
            # The table first: who finds a place finds a row there.
            self._table = torch.cat([self._table, *(self._read(row).unsqueeze(0) for row in absent)])
            self._places[absent] = torch.arange(first, first + len(absent), dtype=torch.int32)
