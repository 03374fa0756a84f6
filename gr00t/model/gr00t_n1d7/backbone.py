"""Vision and language: images and a prompt in, one feature per token out."""

from __future__ import annotations

from torch import Tensor, nn

from gr00t.model.checkpoint.n1d7.config import Gr00tN1d7Config
from gr00t.model.gr00t_n1d7.inputs import Gr00tN1d7Inputs
from gr00t.model.gr00t_n1d7.language import DeepstackDecoder
from gr00t.model.gr00t_n1d7.vision import VisionTower
from gr00t.model.network.attention import causal_mask


class Qwen3VLBackbone(nn.Module):
    """Qwen3-VL's vision tower, and the first layers of its language model."""

    def __init__(self, config: Gr00tN1d7Config) -> None:
        super().__init__()
        self.vision = VisionTower(config.vision)
        self.language_model = DeepstackDecoder(config.language)

    def forward(self, request: Gr00tN1d7Inputs) -> Tensor:
        """Encode images and prompt: (B, T, width). Rows of padding are finite and mean nothing."""
        tokens, deepstack = self.vision(request.pixel_values, request.grids)
        embeddings = self.language_model.embed_tokens(request.input_ids)
        places = request.images.flatten().nonzero().squeeze(1)
        embeddings = embeddings.flatten(0, 1).index_copy(0, places, tokens.to(embeddings.dtype))
        features: Tensor = self.language_model(
            embeddings.unflatten(0, request.input_ids.shape),
            request.positions,
            causal_mask(request.valid),
            places,
            deepstack,
        )
        return features
