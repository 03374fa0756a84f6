"""The adapter between backbone and action head: a LayerNorm and a few pre-norm self-attention blocks.

NVIDIA calls it `vlln` and `vl_self_attention` and keeps it in the action head. The reference lets every
token attend to the padding as well; here padding is masked, so that an observation gives the same features
alone or in a batch.
"""

from __future__ import annotations

from torch import Tensor, nn

from gr00t.model.checkpoint.config_parts import TransformerConfig
from gr00t.model.network.attention import Attention, FeedForward, key_mask


class AdapterBlock(nn.Module):
    """x += attention(norm(x)); x += mlp(norm(x))."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.attn_norm = nn.LayerNorm(width)
        self.attn = Attention(width, width, config.num_heads, config.head_dim, config.attention_bias)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = FeedForward(width, config.activation)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, T, E) -> (B, T, E); `mask` (B, 1, 1, T) is True where a token may be attended to."""
        h = self.attn_norm(x)
        x = x + self.attn(h, self.attn.keys_values(h), mask)
        return x + self.mlp(self.mlp_norm(x))


class Adapter(nn.Module):
    """Backbone features in, features for the action head's cross-attention out."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width) if config.input_norm else None
        self.layers = nn.ModuleList(AdapterBlock(config) for _ in range(config.num_layers))

    def forward(self, features: Tensor, valid: Tensor | None = None) -> Tensor:
        """(B, T, E) -> (B, T, E); `valid` (B, T) bool marks what is not padding, None: everything."""
        x: Tensor = features if self.norm is None else self.norm(features)
        for layer in self.layers:
            x = layer(x, key_mask(valid))
        return x
