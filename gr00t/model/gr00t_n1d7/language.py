"""The language model of Qwen3-VL, whose first layers are given what the vision tower saw on its way.

The layers are those of transformers. Its loop over them is not: that one ends in the final norm, before which
GR00T takes its features, and rounds rotary frequencies in a model that is converted to bfloat16.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLTextConfig
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextDecoderLayer, Qwen3VLTextRMSNorm

from gr00t.model.checkpoint.n1d7.backbone_config import DecoderConfig
from gr00t.model.gr00t_n1d7.positions import rotations, token_angles
from gr00t.model.network.attention import ATTENTION


class DeepstackDecoder(nn.Module):
    """Embedding and layers; no lm_head.

    Attributes:
        norm: never applied, and kept: a checkpoint has it, and a saved one shall be whole.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        theirs = Qwen3VLTextConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            num_key_value_heads=config.num_key_value_heads,
            head_dim=config.head_dim,
            rms_norm_eps=config.rms_norm_eps,
            attention_bias=config.attention_bias,
            use_cache=False,
            **ATTENTION,
        )
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Qwen3VLTextDecoderLayer(theirs, n) for n in range(config.num_layers))
        self.norm = Qwen3VLTextRMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def forward(
        self,
        embeddings: Tensor,
        positions: Tensor,
        mask: Tensor | None,
        places: Tensor,
        deepstack: Sequence[Tensor],
    ) -> Tensor:
        """Read a prompt.

        Args:
            embeddings: (B, T, width), with the tokens of images in their places.
            positions: (3, B, T), in time, rows and columns.
            mask: (B, 1, T, T) bool, True where a token may be attended to; None: causal.
            places: (N,) int64, where in (B * T) the tokens of images are.
            deepstack: of the first layers, what is added to their outputs there, each (N, width).

        Returns:
            (B, T, width), the output of the last layer.
        """
        config = self.config
        cosines, sines = rotations(
            token_angles(positions, config.head_dim, config.rope_theta, config.mrope_section)
        )
        turned = cosines.to(embeddings.dtype), sines.to(embeddings.dtype)
        x = embeddings
        for number, layer in enumerate(self.layers):
            x = layer(x, attention_mask=mask, position_embeddings=turned)
            if number < len(deepstack):
                x = x.flatten(0, 1).index_add(0, places, deepstack[number].to(x.dtype)).view_as(x)
        return x
