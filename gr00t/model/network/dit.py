"""The diffusion transformer's blocks (DiT, arXiv 2212.09748, with cross-attention to vision and language).

One sequence of S tokens, [state, future tokens, actions], runs through the blocks. Even blocks attend to the
T features of the adapter, or to those of text or images alone, odd ones to the sequence itself. Time enters
in two places only, as scale and shift of a LayerNorm: before every attention, and before the output.

    time      t (B,)  ->  c (B, E)
    block     x += attention( LN(x) * (1 + scale(c)) + shift(c) )
              x += mlp( LN(x) )
    output    LN(x) * (1 + scale(c)) + shift(c)

What the sequence attends to does not depend on t: `context` computes the keys and values of all
cross-attention blocks once per request instead of once per denoising step, more than half of the arithmetic
of a step.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gr00t.model.checkpoint.config_parts import TransformerConfig
from gr00t.model.network.attention import Attention, FeedForward, KeysValues
from gr00t.model.network.time_encoding import cosines_first

_SINUSOID_WIDTH = 256


class TimeEncoder(nn.Module):
    """Timesteps (B,) -> conditioning (B, E)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(_SINUSOID_WIDTH, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, timesteps: Tensor, dtype: torch.dtype) -> Tensor:
        """Encode discrete `timesteps` (B,); the sinusoid is float32, everything after it `dtype`."""
        sinusoid = cosines_first(timesteps, _SINUSOID_WIDTH).to(dtype)
        return self.linear_2(F.silu(self.linear_1(sinusoid)))


class Modulation(NamedTuple):
    """What time makes of a LayerNorm, each (B or 1, 1, E)."""

    scale: Tensor
    shift: Tensor


class AdaptiveLayerNorm(nn.Module):
    """LN(x) * (1 + scale(c)) + shift(c), where one Linear of silu(c) gives both."""

    def __init__(self, width: int, eps: float, shift_first: bool = False) -> None:
        super().__init__()
        self.width = width
        self.eps = eps
        # The halves of `linear` are (scale, shift) in the blocks and (shift, scale) at the output.
        self.shift_first = shift_first
        self.linear = nn.Linear(width, 2 * width)

    def modulation(self, condition: Tensor) -> Modulation:
        """Scale and shift at the encoded time (B, E)."""
        scale, shift = self.linear(F.silu(condition)).unsqueeze(1).chunk(2, dim=-1)
        return Modulation(shift, scale) if self.shift_first else Modulation(scale, shift)

    def forward(self, x: Tensor, modulation: Modulation) -> Tensor:
        """(B, S, E) -> (B, S, E)."""
        normed = F.layer_norm(x, (self.width,), eps=self.eps)
        return normed * (1 + modulation.scale) + modulation.shift


class DiTBlock(nn.Module):
    """Attention under the clock, then a feed-forward that is not."""

    def __init__(self, config: TransformerConfig, is_cross: bool) -> None:
        super().__init__()
        width = config.width
        context_width = config.context_dim if is_cross and config.context_dim else width
        self.is_cross = is_cross
        self.attn_norm = AdaptiveLayerNorm(width, eps=1e-5)
        self.attn = Attention(width, context_width, config.num_heads, config.head_dim, config.attention_bias)
        self.mlp_norm = nn.LayerNorm(
            width, eps=config.mlp_norm_eps, elementwise_affine=config.mlp_norm_affine
        )
        self.mlp = FeedForward(width, config.activation)

    def context(self, features: Tensor) -> KeysValues | None:
        """Keys and values of `features` (B, T, context_dim); None where the block reads only itself."""
        if not self.is_cross:
            return None
        # Laid out one head after the other, once: every step reads them.
        return KeysValues(*(part.contiguous() for part in self.attn.keys_values(features)))

    def forward(
        self, x: Tensor, modulation: Modulation, context: KeysValues | None, mask: Tensor | None = None
    ) -> Tensor:
        """One block.

        Args:
            x: (B, S, E).
            modulation: of `attn_norm`, at the time.
            context: what `self.context` returned.
            mask: (B, 1, 1, T) bool, True where a feature may be attended to.

        Returns:
            (B, S, E).
        """
        h = self.attn_norm(x, modulation)
        if context is None:
            context, mask = self.attn.keys_values(h), None
        x = x + self.attn(h, context, mask)
        return x + self.mlp(self.mlp_norm(x))


def dit_blocks(config: TransformerConfig) -> nn.ModuleList:
    """The stack: cross-attention everywhere, or on even blocks only where self-attention is interleaved."""
    return nn.ModuleList(
        DiTBlock(config, is_cross=not (config.interleave and n % 2 == 1)) for n in range(config.num_layers)
    )
