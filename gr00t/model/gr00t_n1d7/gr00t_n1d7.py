"""GR00T N1.7: images, a prompt and a robot's state in, a chunk of actions out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from gr00t.model.checkpoint.n1d7.config import Gr00tN1d7Config
from gr00t.model.gr00t_n1d7.backbone import Qwen3VLBackbone
from gr00t.model.gr00t_n1d7.inputs import Gr00tN1d7Inputs
from gr00t.model.network.action_head import ActionHead
from gr00t.model.network.adapter import Adapter
from gr00t.model.network.chunk_overlap import ChunkOverlap
from gr00t.model.network.model import Gr00tModel


class Gr00tN1d7(Gr00tModel):
    """The whole policy network, as `Gr00tModel` describes it."""

    architecture = Gr00tN1d7Config
    config: Gr00tN1d7Config
    backbone: Qwen3VLBackbone

    def __init__(self, config: Gr00tN1d7Config) -> None:
        super().__init__()
        self.config = config
        self.backbone = Qwen3VLBackbone(config)
        self.adapter = Adapter(config.adapter) if config.adapter is not None else None
        self.action_head = ActionHead(config.action_head)
        self.requires_grad_(False)
        self.eval()

    def read_inputs(self, inputs: Mapping[str, Any]) -> Gr00tN1d7Inputs:
        """Pick tensors by NVIDIA's names and check them.

        Args:
            inputs: `pixel_values` (P, values), the patches of all images, those of sample 0 first;
                `image_grid_thw` (images, 3), frames, rows and columns of patches; `input_ids` and
                `attention_mask` (B, T); `state` (B, state_history, max_state_dim); `embodiment_id` (B,).
                Others are ignored.
        """
        return Gr00tN1d7Inputs.from_mapping(inputs, self.config)

    def encode(self, request: Gr00tN1d7Inputs) -> Tensor:
        """What the action head attends to, (B, T, E_context): backbone, then adapter."""
        features: Tensor = self.backbone(request)
        return features if self.adapter is None else self.adapter(features, request.valid)

    def images(self, request: Gr00tN1d7Inputs) -> Tensor:
        """Which tokens (B, T) are those of images."""
        return request.images

    def get_action(
        self,
        inputs: Mapping[str, Any],
        noise: Tensor | None = None,
        seeds: Sequence[int] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> dict[str, Tensor]:
        """The reference's name for calling the model; see `forward`.

        Args:
            inputs: as for `read_inputs`; with `action` (B, H, A), the chunks before, these are continued.
            noise: as for `forward`.
            seeds: as for `forward`.
            options: how they are: `action_horizon`, `rtc_overlap_steps`, `rtc_frozen_steps` and
                `rtc_ramp_rate` (`ChunkOverlap`).

        Raises:
            ValueError: an input does not fit, or one of `action` and options comes without the other.
        """
        if ("action" in inputs) != (options is not None):
            raise ValueError(
                "action, the chunk that is to be continued, and options, which say how, belong together"
            )
        overlap = None if options is None else ChunkOverlap.from_options(inputs["action"], options)
        return self(inputs, noise=noise, seeds=seeds, overlap=overlap)
