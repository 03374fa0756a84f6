"""What the models of all families are: images, a prompt and a robot's state in, a chunk of actions out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from gr00t.model.checkpoint.architecture import Architecture
from gr00t.model.checkpoint.folder import load_weights, save_checkpoint
from gr00t.model.checkpoint.folder_kind import FolderKind
from gr00t.model.checkpoint.json_section import CheckpointError
from gr00t.model.checkpoint.source import Source, open_source
from gr00t.model.network.action_head import ActionHead, FlowContext
from gr00t.model.network.adapter import Adapter
from gr00t.model.network.chunk_overlap import ChunkOverlap
from gr00t.model.network.request import RequestTensors, draw_noise

_DTYPES = (torch.float32, torch.bfloat16)

Model = TypeVar("Model", bound="Gr00tModel")


class Gr00tModel(nn.Module):
    """The whole policy network. It only infers: always in eval mode, no gradients, no dropout.

    Attributes:
        architecture: the class of its configuration.
        config: the architecture.
        backbone: vision and language.
        adapter: self-attention over the backbone's features, None where the checkpoint has none.
        action_head: flow matching; `action_head.num_inference_timesteps` sets the denoising steps.
    """

    architecture: ClassVar[type[Architecture]]
    config: Architecture
    backbone: nn.Module
    adapter: Adapter | None
    action_head: ActionHead

    @classmethod
    def on_meta(cls: type[Model], config: Architecture, torch_dtype: torch.dtype = torch.float32) -> Model:
        """Build without allocating any weight: names, shapes and dtypes are there, values are not.

        Raises:
            ValueError: the dtype is neither float32 nor bfloat16.
            CheckpointError: the architecture is of another family.
        """
        if torch_dtype not in _DTYPES:
            raise ValueError(f"torch_dtype must be one of {', '.join(map(str, _DTYPES))}, got {torch_dtype}")
        if not isinstance(config, cls.architecture):
            raise CheckpointError(
                f"this is {config.family.name}, and {cls.__name__} is {cls.architecture.family.name}; "
                "gr00t.model.checkpoints.open_checkpoint opens either"
            )
        with torch.device("meta"):
            model = cls(config).to(torch_dtype)
        model.materialize_buffers()
        return model

    @classmethod
    def from_pretrained(
        cls: type[Model],
        path_or_hub_id: str | Path,
        torch_dtype: torch.dtype = torch.float32,
        *,
        base: str | Path | None = None,
    ) -> Model:
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
    def from_source(cls: type[Model], source: Source, torch_dtype: torch.dtype = torch.float32) -> Model:
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

    def materialize_buffers(self) -> None:
        """Give real values to what no checkpoint holds, after construction on `meta`."""

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that the model computes in."""
        return self.action_head.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.action_head.device

    @torch.no_grad()
    def forward(
        self,
        inputs: Mapping[str, Any] | RequestTensors,
        noise: Tensor | None = None,
        seeds: Sequence[int] | None = None,
        overlap: ChunkOverlap | None = None,
    ) -> dict[str, Tensor]:
        """Predict one chunk of actions per sample.

        Args:
            inputs: tensors by NVIDIA's names, as `read_inputs` takes them; or what it made of them.
            noise: (B, H, A), where the flow starts.
            seeds: one per sample instead of `noise`; without either, one draw from the global CPU generator.
            overlap: the chunks before, which these are to continue.

        Returns:
            `{"action_pred": (B, H, A) float32}`, normalized actions.

        Raises:
            ValueError: an input does not fit the model; the message names it.
        """
        request = inputs if isinstance(inputs, RequestTensors) else self.read_inputs(inputs)
        request = request.to(self.device, self.dtype)
        start = draw_noise(len(request.state), self.config, noise, seeds, self.dtype).to(self.device)
        actions = self.action_head(
            self.encode(request),
            request.valid,
            request.state,
            request.embodiment,
            start,
            images=self.images(request),
            overlap=overlap,
        )
        return {"action_pred": actions.float()}

    @abstractmethod
    def read_inputs(self, inputs: Mapping[str, Any]) -> RequestTensors:
        """Pick tensors by NVIDIA's names and check them; others are ignored.

        Raises:
            ValueError: one is missing or does not fit; the message names it.
        """

    @abstractmethod
    def encode(self, request: Any) -> Tensor:
        """What the action head attends to, (B, T, E_context): backbone, then adapter."""

    def images(self, request: Any) -> Tensor | None:
        """Which tokens (B, T) are those of images; None where the action head need not know."""
        return None

    def context(self, request: Any) -> FlowContext:
        """What the velocity of a request depends on besides actions and time."""
        features, images = self.encode(request), self.images(request)
        return self.action_head.context(features, request.valid, request.state, request.embodiment, images)
