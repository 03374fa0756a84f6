"""GR00T N1.5: images, a prompt and a robot's state in, a chunk of actions out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from gr00t.model.checkpoint.config import Gr00tConfig
from gr00t.model.inputs import ModelInputs
from gr00t.model.network.action_head import ActionHead
from gr00t.model.network.adapter import Adapter
from gr00t.model.network.backbone import Backbone
from gr00t.model.network.model import Gr00tModel


class GR00T_N1_5(Gr00tModel):  # noqa: N801 (the reference's name, which users import)
    """The whole policy network, as `Gr00tModel` describes it."""

    architecture = Gr00tConfig
    config: Gr00tConfig
    backbone: Backbone

    def __init__(self, config: Gr00tConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config)
        self.adapter = Adapter(config.adapter) if config.adapter is not None else None
        self.action_head = ActionHead(config.action_head)
        self.requires_grad_(False)
        self.eval()

    def materialize_buffers(self) -> None:
        """Give real values to what no checkpoint holds, after construction on `meta`."""
        self.backbone.materialize_buffers()

    def read_inputs(self, inputs: Mapping[str, Any]) -> ModelInputs:
        """Pick tensors by NVIDIA's names and check them.

        Args:
            inputs: `eagle_pixel_values` (B*V, 3, size, size), those of sample 0 first; `eagle_input_ids` and
                `eagle_attention_mask` (B, T); `state` (B, S, max_state_dim); `embodiment_id` (B,). Others
                are ignored.
        """
        return ModelInputs.from_mapping(inputs, self.config)

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
