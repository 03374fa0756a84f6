"""Layers that look rows up in a table, without the rows that nobody asks for while a model is served."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor, nn


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
