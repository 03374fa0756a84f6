"""GR00T N1.5: images, a prompt and a robot's state in, a chunk of actions out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gr00t.model.checkpoint.config import Gr00tConfig
from gr00t.model.checkpoint.folder import load_weights, save_checkpoint
from gr00t.model.checkpoint.folder_kind import FolderKind
from gr00t.model.checkpoint.json_section import CheckpointError
from gr00t.model.checkpoint.source import Source, open_source
from gr00t.model.inputs import ModelInputs, draw_noise
from gr00t.model.network.action_head import ActionHead
from gr00t.model.network.adapter import Adapter
from gr00t.model.network.backbone import Backbone

_DTYPES = (torch.float32, torch.bfloat16)


class GR00T_N1_5(nn.Module):  # noqa: N801 (the reference's name, which users import)
    """The whole policy network. It only infers: always in eval mode, no gradients, no dropout.

    Attributes:
        config: the architecture.
        backbone: vision and language.
        adapter: self-attention over the backbone's features, None where the checkpoint has none.
        action_head: flow matching; `action_head.num_inference_timesteps` sets the denoising steps.
    """

    def __init__(self, config: Gr00tConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config)
        self.adapter = Adapter(config.adapter) if config.adapter is not None else None
        self.action_head = ActionHead(config.action_head)
        self.requires_grad_(False)
        self.eval()

    @classmethod
    def on_meta(cls, config: Gr00tConfig, torch_dtype: torch.dtype = torch.float32) -> GR00T_N1_5:
        """Build without allocating any weight: names, shapes and dtypes are there, values are not.

        Raises:
            ValueError: the dtype is neither float32 nor bfloat16.
        """
        if torch_dtype not in _DTYPES:
            raise ValueError(f"torch_dtype must be one of {', '.join(map(str, _DTYPES))}, got {torch_dtype}")
        with torch.device("meta"):
            model = cls(config).to(torch_dtype)
        model.backbone.materialize_buffers()
        return model

    @classmethod
    def from_pretrained(
        cls,
        path_or_hub_id: str | Path,
        torch_dtype: torch.dtype = torch.float32,
        *,
        base: str | Path | None = None,
    ) -> GR00T_N1_5:
        """Load a checkpoint in floating point, NVIDIA's or lerobot's, from a folder or the model hub.

        Args:
            path_or_hub_id: of the checkpoint, or of an adapter.
            torch_dtype: of the weights.
            base: the checkpoint that an adapter was trained on, or that a policy of lerobot began from.

        Raises:
            CheckpointError: nothing usable is found; the message names the file and the key. A quantized
                checkpoint is opened by `gr00t.model.checkpoints.open_checkpoint`.
        """
        return cls.from_source(open_source(path_or_hub_id, base), torch_dtype)

    @classmethod
    def from_source(cls, source: Source, torch_dtype: torch.dtype = torch.float32) -> GR00T_N1_5:
        """Load a checkpoint whose folders are found already; see `from_pretrained`."""
        if source.kind is FolderKind.QUANTIZED:
            raise CheckpointError(
                f"{source.folder} is a quantized checkpoint, whose layers are no nn.Linear; serve it with "
                "Gr00tPolicy, or load it with gr00t.model.checkpoints.open_checkpoint(...).load_model(DTYPE)"
            )
        model = cls.on_meta(source.config, torch_dtype)
        load_weights(model, source.weights, adapter=source.adapter)
        return model

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a checkpoint in NVIDIA's layout; `from_pretrained` reads the same bits back."""
        save_checkpoint(self, self.config, folder)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that the model computes in."""
        return self.action_head.future_tokens.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.action_head.future_tokens.device

    @torch.no_grad()
    def forward(
        self,
        inputs: Mapping[str, Any] | ModelInputs,
        noise: Tensor | None = None,
        seeds: Sequence[int] | None = None,
    ) -> dict[str, Tensor]:
        """Predict one chunk of actions per sample.

        Args:
            inputs: `eagle_pixel_values` (B*V, 3, size, size), those of sample 0 first; `eagle_input_ids` and
                `eagle_attention_mask` (B, T); `state` (B, S, max_state_dim); `embodiment_id` (B,). Others
                are ignored. Or what `ModelInputs.from_mapping` made of them.
            noise: (B, H, A), where the flow starts.
            seeds: one per sample instead of `noise`; without either, one draw from the global CPU generator.

        Returns:
            `{"action_pred": (B, H, A) float32}`, normalized actions.

        Raises:
            ValueError: an input does not fit the model; the message names it.
        """
        if not isinstance(inputs, ModelInputs):
            inputs = ModelInputs.from_mapping(inputs, self.config)
        request = inputs.to(self.device, self.dtype)
        start = draw_noise(len(request.state), self.config, noise, seeds, self.dtype).to(self.device)
        features = self.encode(request)
        actions = self.action_head(features, request.valid, request.state, request.embodiment, start)
        return {"action_pred": actions.float()}

    def encode(self, request: ModelInputs) -> Tensor:
        """What the action head attends to, (B, T, E_context): backbone, then adapter."""
        features: Tensor = self.backbone(request.pixel_values, request.input_ids, request.valid)
        return features if self.adapter is None else self.adapter(features, request.valid)

    def get_action(
        self,
        inputs: Mapping[str, Any] | ModelInputs,
        noise: Tensor | None = None,
        seeds: Sequence[int] | None = None,
    ) -> dict[str, Tensor]:
        """The reference's name for calling the model; see `forward`."""
        return self(inputs, noise=noise, seeds=seeds)
