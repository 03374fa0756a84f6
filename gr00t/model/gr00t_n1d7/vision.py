"""The vision tower of Qwen3-VL: patches of images of any size in, tokens for the language model out.

The blocks and the mergers are those of transformers; what stands between them is written here, since there it
keeps rotary frequencies in buffers, which `.to(bfloat16)` rounds and which do not exist on `meta`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLVisionConfig
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionBlock, Qwen3VLVisionPatchMerger

from gr00t.model.checkpoint.n1d7.backbone_config import VisionTowerConfig
from gr00t.model.gr00t_n1d7.positions import Grid, learned_positions, patch_angles, rotations
from gr00t.model.network.attention import ATTENTION


class ImageTokens(NamedTuple):
    """Tokens (N, width) for the language model's input, and what its first layers are given besides."""

    tokens: Tensor
    deepstack: list[Tensor]


class PatchEmbedding(nn.Module):
    """A Linear over all numbers of a patch, whose weight has the shape of a convolution's."""

    def __init__(self, config: VisionTowerConfig) -> None:
        super().__init__()
        size = (config.temporal_patch_size, config.patch_size, config.patch_size)
        self.proj = nn.Conv3d(config.num_channels, config.hidden_size, size)

    def forward(self, patches: Tensor) -> Tensor:
        """(P, values) -> (P, width)."""
        return F.linear(patches, self.proj.weight.flatten(1), self.proj.bias)


class VisionTower(nn.Module):
    """Patch embedding, learned positions, blocks, and a merger at the end and after each tapped block."""

    def __init__(self, config: VisionTowerConfig) -> None:
        super().__init__()
        self.config = config
        theirs = Qwen3VLVisionConfig(
            depth=config.num_layers,
            hidden_size=config.hidden_size,
            hidden_act=config.activation,
            intermediate_size=config.intermediate_size,
            num_heads=config.num_heads,
            spatial_merge_size=config.merge_size,
            out_hidden_size=config.out_size,
            **ATTENTION,
        )
        self.patch_embed = PatchEmbedding(config)
        self.pos_embed = nn.Embedding(config.num_positions, config.hidden_size)
        self.blocks = nn.ModuleList(Qwen3VLVisionBlock(theirs) for _ in range(config.num_layers))
        self.merger = Qwen3VLVisionPatchMerger(theirs, use_postshuffle_norm=False)
        self.deepstack_merger_list = nn.ModuleList(
            Qwen3VLVisionPatchMerger(theirs, use_postshuffle_norm=True) for _ in config.taps
        )

    def forward(self, patches: Tensor, grids: Sequence[Grid]) -> ImageTokens:
        """Look at images, each by itself.

        Args:
            patches: (P, values), image after image, in squares that become one token.
            grids: rows and columns of patches of every image.
        """
        config = self.config
        x = self.patch_embed(patches)
        x = x + self._positions(grids).to(x.dtype)
        angles = [patch_angles(grid, config.merge_size, config.head_dim, config.rope_theta) for grid in grids]
        cosines, sines = rotations(torch.cat(angles).to(x.device))
        ends = torch.tensor([0, *(height * width for height, width in grids)]).cumsum(0).to(torch.int32)
        taken = []
        for number, block in enumerate(self.blocks):
            x = block(x, cu_seqlens=ends, position_embeddings=(cosines, sines))
            if number in config.taps:
                taken.append(self.deepstack_merger_list[config.taps.index(number)](x))
        return ImageTokens(self.merger(x), taken)

    def _positions(self, grids: Sequence[Grid]) -> Tensor:
        """The learned positions (P, width) of all patches, float32."""
        config, table = self.config, self.pos_embed.weight
        side = round(config.num_positions**0.5)
        found = [learned_positions(grid, config.merge_size, side) for grid in grids]
        rows, weights = (torch.cat(parts, dim=1).to(table.device) for parts in zip(*found, strict=True))
        return (table[rows].float() * weights.unsqueeze(-1)).sum(0)
