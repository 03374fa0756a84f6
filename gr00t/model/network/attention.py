"""Attention and feed-forward as the adapter and the DiT share them.

Keys and values are computed by a step of their own: the DiT attends to features that stay the same while it
is evaluated at every denoising step, so theirs are computed once per request. Nothing here knows dropout:
these modules only infer.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# What the configurations of transformers' modules are told.
ATTENTION: dict[str, Any] = {"attn_implementation": "sdpa"}


class KeysValues(NamedTuple):
    """Keys and values of one attention layer, each (B, heads, T, head_dim)."""

    keys: Tensor
    values: Tensor


class Attention(nn.Module):
    """Multi-head attention whose keys and values may come from elsewhere."""

    def __init__(self, width: int, context_width: int, num_heads: int, head_dim: int, bias: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = nn.Linear(width, num_heads * head_dim, bias=bias)
        self.k_proj = nn.Linear(context_width, num_heads * head_dim, bias=bias)
        self.v_proj = nn.Linear(context_width, num_heads * head_dim, bias=bias)
        self.o_proj = nn.Linear(num_heads * head_dim, width)

    def keys_values(self, context: Tensor) -> KeysValues:
        """Keys and values of `context` (B, T, context_width)."""
        return KeysValues(self._split(self.k_proj(context)), self._split(self.v_proj(context)))

    def forward(self, x: Tensor, context: KeysValues, mask: Tensor | None = None) -> Tensor:
        """Attend from `x` to `context`.

        Args:
            x: (B, S, width).
            context: keys and values of T tokens; for self-attention `self.keys_values(x)`.
            mask: (B, 1, 1, T) bool, True where a token may be attended to; None allows all.

        Returns:
            (B, S, width).
        """
        queries = self._split(self.q_proj(x))
        mixed = F.scaled_dot_product_attention(queries, context.keys, context.values, attn_mask=mask)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        """(B, T, heads * head_dim) -> (B, heads, T, head_dim)."""
        return x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)


class FeedForward(nn.Module):
    """Widen four times, GELU, narrow. `gelu-approximate` is the tanh form, `gelu` the exact one."""

    def __init__(self, width: int, activation: str) -> None:
        super().__init__()
        self.up_proj = nn.Linear(width, 4 * width)
        self.down_proj = nn.Linear(4 * width, width)
        self.approximate = "tanh" if activation == "gelu-approximate" else "none"

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, width) -> (B, S, width)."""
        return self.down_proj(F.gelu(self.up_proj(x), approximate=self.approximate))


def key_mask(valid: Tensor | None) -> Tensor | None:
    """The mask (B, 1, 1, T) that hides the padding from every query, given the `valid` tokens (B, T)."""
    return None if valid is None else valid[:, None, None, :]


def causal_mask(valid: Tensor | None) -> Tensor | None:
    """The causal mask (B, 1, T, T) that also hides the padding, given the `valid` tokens (B, T).

    A padding row may attend to itself, and only that: a row without any key would be NaN on some devices,
    and one NaN spreads through the next layer's values whatever the mask says (0 x NaN).
    """
    if valid is None:
        return None
    length = valid.shape[1]
    square = torch.ones(length, length, dtype=torch.bool, device=valid.device)
    itself = torch.eye(length, dtype=torch.bool, device=valid.device)
    return (square.tril() & valid[:, None, None, :]) | itself
