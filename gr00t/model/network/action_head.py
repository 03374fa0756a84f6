"""Flow matching: from noise to a chunk of actions in N Euler steps.

The network gives the velocity v(x, t) that carries noise at t = 0 to actions at t = 1; x <- x + v/N, N times.
It sees t in discrete buckets, int(t * buckets), as it was trained.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from gr00t.model.checkpoint.config_parts import ActionHeadConfig
from gr00t.model.network.attention import KeysValues
from gr00t.model.network.chunk_overlap import ChunkOverlap
from gr00t.model.network.dit import AdaptiveLayerNorm, DiTBlock, Modulation, TimeEncoder, dit_blocks
from gr00t.model.network.embodiment import ActionEncoder, EmbodimentMLP, common
from gr00t.model.network.kept import KeptWhileSame
from gr00t.model.network.reading import Reading, read_all, read_text_and_images


class FlowContext(NamedTuple):
    """What the velocity depends on besides actions and time; computed once per request.

    Attributes:
        attended: per layer the keys and values of the features, None for a layer that reads only itself.
        masks: per layer (B, 1, 1, T) bool, True where a feature may be attended to; None: everywhere.
        prefix: (B, S + future tokens, E), the tokens before the actions.
        embodiment: (B,) int64, or the one of all samples.
    """

    attended: list[KeysValues | None]
    masks: list[Tensor | None]
    prefix: Tensor
    embodiment: Tensor | int


class Clock(NamedTuple):
    """All that time decides; it is the same for every request.

    Attributes:
        timesteps: (B or 1,) int64, the time buckets.
        blocks: what they make of every block's norm.
        output: and of the output's.
    """

    timesteps: Tensor
    blocks: list[Modulation]
    output: Modulation


class ActionHead(nn.Module):
    """State, features and noise in; actions out.

    `num_inference_timesteps` (N) may be set at any time; it takes effect with the next request.

    Attributes:
        keeps_clocks: what time decides is computed once per time bucket, not once per request, until the
            weights that it follows from change (`KeptWhileSame`).
    """

    def __init__(self, config: ActionHeadConfig) -> None:
        super().__init__()
        self.config = config
        self.keeps_clocks = False
        self._clocks: KeptWhileSame[Clock] = KeptWhileSame()
        self.num_inference_timesteps = config.num_inference_timesteps
        robots, width = config.num_embodiments, config.dit.width
        state_dim = config.max_state_dim * (config.state_history or 1)
        self.state_encoder = EmbodimentMLP(robots, state_dim, config.hidden_size, width)
        self.action_encoder = ActionEncoder(robots, config.action_dim, width)
        self.position_embedding = None
        if config.max_seq_len is not None:
            self.position_embedding = nn.Parameter(0.02 * torch.randn(config.max_seq_len, width))
        self.future_tokens = None
        if config.num_future_tokens:
            self.future_tokens = nn.Parameter(0.02 * torch.randn(config.num_future_tokens, width))
        self.time_encoder = TimeEncoder(width)
        self.layers = dit_blocks(config.dit)
        self.out_norm = AdaptiveLayerNorm(width, eps=1e-6, shift_first=True)
        self.out_proj = nn.Linear(width, config.hidden_size)
        self.action_decoder = EmbodimentMLP(robots, config.hidden_size, config.hidden_size, config.action_dim)

    def forward(
        self,
        features: Tensor,
        valid: Tensor | None,
        state: Tensor,
        embodiment: Tensor,
        noise: Tensor,
        images: Tensor | None = None,
        overlap: ChunkOverlap | None = None,
    ) -> Tensor:
        """Denoise one chunk per sample.

        Args:
            features: (B, T, E_context) from the adapter.
            valid: (B, T) bool, False on padding; None: no padding.
            state: (B, S, max_state_dim), normalized and zero-padded.
            embodiment: (B,) int64.
            noise: (B, H, A).
            images: (B, T) bool, True on the tokens of images; needed where blocks read text or images alone.
            overlap: the chunk before, which this one is to continue.

        Returns:
            (B, H, A), normalized actions in the dtype of `noise`.

        Raises:
            ValueError: `num_inference_timesteps` is not a positive integer, or the overlap does not fit.
        """
        steps = self.num_inference_timesteps
        if type(steps) is not int or steps < 1:
            raise ValueError(f"num_inference_timesteps must be an integer >= 1, got {steps!r}")
        context = self.context(features, valid, state, common(embodiment), images)
        clocks = self._kept_clocks()
        actions = noise if overlap is None else overlap.start(noise)
        rate: float | Tensor = 1.0 / steps
        if overlap is not None:
            rate = rate * overlap.strength(noise.shape[1], noise)
        for step in range(steps):
            bucket = int(step / steps * self.config.num_timestep_buckets)
            key = (bucket, features.dtype, state.device)
            if (clock := clocks.get(key)) is None:
                timesteps = torch.tensor([bucket], device=state.device)
                clock = clocks[key] = self.clock(timesteps, features.dtype)
            actions = actions + rate * self.velocity(actions, clock, context)
        return actions

    def context(
        self,
        features: Tensor,
        valid: Tensor | None,
        state: Tensor,
        embodiment: Tensor | int,
        images: Tensor | None = None,
    ) -> FlowContext:
        """Prepare what `velocity` needs; the arguments are those of `forward`."""
        if self.config.state_history is not None:
            state = state.flatten(1).unsqueeze(1)
        prefix = self.state_encoder(state, embodiment)
        if self.future_tokens is not None:
            prefix = torch.cat([prefix, self.future_tokens.expand(len(state), -1, -1)], dim=1)
        readings = self._readings(features, valid, images)
        return FlowContext(
            attended=[
                cast(DiTBlock, layer).context(reading.features)
                for layer, reading in zip(self.layers, readings, strict=True)
            ],
            masks=[reading.mask for reading in readings],
            prefix=prefix,
            embodiment=embodiment,
        )

    def _readings(self, features: Tensor, valid: Tensor | None, images: Tensor | None) -> list[Reading]:
        """What each layer reads, if it reads anything but itself."""
        text_every, count = self.config.dit.text_every, len(self.layers)
        if text_every is None:
            return [read_all(features, valid)] * count
        if images is None:
            raise ValueError(
                "images: this model's blocks read text or images, and were not told which is which"
            )
        text, pictures = read_text_and_images(features, valid, images)
        # Every other layer reads itself.
        return [text if number % (2 * text_every) == 0 else pictures for number in range(count)]

    def clock(self, timesteps: Tensor, dtype: torch.dtype) -> Clock:
        """What the time buckets `timesteps` (B or 1,) decide; `dtype` is the features'."""
        condition = self.time_encoder(timesteps, dtype)
        blocks = [cast(DiTBlock, layer).attn_norm.modulation(condition) for layer in self.layers]
        return Clock(timesteps, blocks, self.out_norm.modulation(condition))

    def velocity(self, actions: Tensor, clock: Clock, context: FlowContext) -> Tensor:
        """v(x, t), (B, H, A), at `actions` (B, H, A)."""
        horizon = actions.shape[1]
        tokens = self.action_encoder(actions, clock.timesteps, context.embodiment)
        if self.position_embedding is not None:
            tokens = tokens + self.position_embedding[:horizon]
        x = torch.cat([context.prefix, tokens], dim=1)
        for layer, modulation, attended, mask in zip(
            self.layers, clock.blocks, context.attended, context.masks, strict=True
        ):
            x = layer(x, modulation, attended, mask)
        # Only the action tokens are decoded: what the others would say is not an action.
        x = self.out_proj(self.out_norm(x[:, -horizon:], clock.output))
        return self.action_decoder(x, context.embodiment)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that it computes in."""
        return self._witness.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._witness.device

    @property
    def _witness(self) -> Tensor:
        """A weight that is neither packed nor quantized, whatever a server does."""
        bias: Tensor = self.state_encoder.layer1.bias
        return bias

    def _kept_clocks(self) -> dict[Hashable, Clock]:
        """The clocks that still hold, by time bucket, dtype and device."""
        if not self.keeps_clocks:
            return {}
        norms = [cast(DiTBlock, layer).attn_norm for layer in self.layers]
        return self._clocks.results([self.time_encoder, *norms, self.out_norm])
