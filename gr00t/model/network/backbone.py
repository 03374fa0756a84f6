"""Vision and language: images and a prompt in, one feature per token out.

SigLIP encodes every image, a Linear brings its tokens to the language model's width, and they take the
places of the prompt's image tokens. Of Qwen3 only the first `select_layer` layers exist, followed by its
final norm. There is no pooling head and no lm_head: the reference computes both and throws them away.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.qwen3.configuration_qwen3 import Qwen3Config
from transformers.models.qwen3.modeling_qwen3 import Qwen3Model
from transformers.models.siglip.configuration_siglip import SiglipVisionConfig
from transformers.models.siglip.modeling_siglip import SiglipVisionModel

from gr00t.model.checkpoint.config import Gr00tConfig
from gr00t.model.checkpoint.config_parts import LanguageConfig, VisionConfig
from gr00t.model.network.attention import ATTENTION, causal_mask


class RotaryEmbedding(nn.Module):
    """Cosines and sines of Qwen3's rotary positions, computed in float32 at every call.

    Stands in for the one of transformers, which keeps its frequencies in a buffer: a buffer that
    `.to(bfloat16)` would round, and that does not exist on a model built on `meta`.
    """

    def __init__(self, head_dim: int, theta: float) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.theta = theta

    def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Positions (B, T) -> cosines and sines, each (B, T, head_dim), like `x` in dtype and device."""
        # On the CPU first: another device's pow differs in the last bit.
        exponents = torch.arange(0, self.head_dim, 2, dtype=torch.float32, device="cpu") / self.head_dim
        frequencies = (1.0 / self.theta**exponents).to(x.device)
        angles = position_ids.unsqueeze(-1).to(torch.float32) * frequencies
        angles = torch.cat([angles, angles], dim=-1)
        return angles.cos().to(x.dtype), angles.sin().to(x.dtype)


class Backbone(nn.Module):
    """SigLIP, connector, Qwen3 and, where the checkpoint has one, a projector."""

    def __init__(self, config: Gr00tConfig) -> None:
        super().__init__()
        self.image_token_index = config.image_token_index
        self.vision = _vision_transformer(config.vision)
        self.connector = nn.Linear(config.vision.hidden_size, config.language.hidden_size)
        self.language_model = _decoder(config.language)
        self.projector = None
        if config.projector_dim is not None:
            self.projector = nn.Linear(config.language.hidden_size, config.projector_dim)

    def forward(self, pixel_values: Tensor, input_ids: Tensor, valid: Tensor | None) -> Tensor:
        """Encode images and prompt.

        Args:
            pixel_values: (images, 3, size, size), those of sample 0 first.
            input_ids: (B, T) int64, with `tokens_per_image` image tokens for every image.
            valid: (B, T) bool, False on padding; None: no padding.

        Returns:
            (B, T, backbone_width). Rows of padding are finite and mean nothing.
        """
        return self.read(self.look(pixel_values), input_ids, valid)

    def look(self, pixel_values: Tensor) -> Tensor:
        """The images' tokens as they enter the language model, (images, tokens_per_image, width)."""
        tokens: Tensor = self.connector(self.vision(pixel_values=pixel_values).last_hidden_state)
        return tokens

    def read(self, image_tokens: Tensor, input_ids: Tensor, valid: Tensor | None) -> Tensor:
        """The rest of `forward`, from what `look` returns."""
        embeddings = self.language_model.embed_tokens(input_ids)
        places = (input_ids == self.image_token_index).unsqueeze(-1)
        embeddings = embeddings.masked_scatter(places, image_tokens.to(embeddings.dtype))
        # Positions count padding too, as in the reference: only their differences matter to rotary attention.
        positions = torch.arange(input_ids.shape[1], device=input_ids.device).unsqueeze(0)
        features = self.language_model(
            inputs_embeds=embeddings,
            attention_mask={"full_attention": causal_mask(valid)},
            position_ids=positions,
            use_cache=False,
        ).last_hidden_state
        return features if self.projector is None else self.projector(features)

    def materialize_buffers(self) -> None:
        """Give real values to what no checkpoint holds, after construction on `meta`."""
        embeddings: Any = self.vision.embeddings
        ids = torch.arange(embeddings.num_positions).expand(1, -1)
        embeddings.register_buffer("position_ids", ids, persistent=False)


def _vision_transformer(config: VisionConfig) -> nn.Module:
    """SigLIP without its pooling head."""
    model = SiglipVisionModel(
        SiglipVisionConfig(
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            num_channels=config.num_channels,
            image_size=config.image_size,
            patch_size=config.patch_size,
            layer_norm_eps=config.layer_norm_eps,
            hidden_act=config.activation,
            vision_use_head=False,
            **ATTENTION,
        )
    )
    # Earlier releases of transformers 5 wrap the transformer once more.
    return getattr(model, "vision_model", model)


def _decoder(config: LanguageConfig) -> Qwen3Model:
    """The layers of Qwen3 that are used, and the final norm; no lm_head."""
    model = Qwen3Model(
        Qwen3Config(
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
    )
    model.add_module("rotary_emb", RotaryEmbedding(config.head_dim, config.rope_theta))
    return model
