"""Flow matching: from noise to a chunk of actions in N Euler steps.

The network gives the velocity v(x, t) that carries noise at t = 0 to actions at t = 1; x <- x + v/N, N times.
It sees t in discrete buckets, int(t * buckets), as it was trained.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from gr00t.model.checkpoint.config_parts import ActionHeadConfig
from gr00t.model.network.attention import KeysValues, key_mask
from gr00t.model.network.dit import AdaptiveLayerNorm, DiTBlock, TimeEncoder, dit_blocks
from gr00t.model.network.embodiment import ActionEncoder, EmbodimentMLP


class FlowContext(NamedTuple):
    """What the velocity depends on besides actions and time; computed once per request.

    Attributes:
        attended: per layer the keys and values of the features, None for a layer that reads only itself.
        mask: (B, 1, 1, T) bool, True where a feature may be attended to; None: everywhere.
        prefix: (B, S + future tokens, E), the tokens before the actions.
        embodiment: (B,) int64.
    """

    attended: list[KeysValues | None]
    mask: Tensor | None
    prefix: Tensor
    embodiment: Tensor


class ActionHead(nn.Module):
    """State, features and noise in; actions out.

    `num_inference_timesteps` (N) may be set at any time; it takes effect with the next request.
    """

    def __init__(self, config: ActionHeadConfig) -> None:
        super().__init__()
        self.config = config
        self.num_inference_timesteps = config.num_inference_timesteps
        robots, width = config.num_embodiments, config.dit.width
        self.state_encoder = EmbodimentMLP(robots, config.max_state_dim, config.hidden_size, width)
        self.action_encoder = ActionEncoder(robots, config.action_dim, width)
        self.position_embedding = None
        if config.max_seq_len is not None:
            self.position_embedding = nn.Parameter(0.02 * torch.randn(config.max_seq_len, width))
        self.future_tokens = nn.Parameter(0.02 * torch.randn(config.num_future_tokens, width))
        self.time_encoder = TimeEncoder(width)
        self.layers = dit_blocks(config.dit)
        self.out_norm = AdaptiveLayerNorm(width, eps=1e-6, shift_first=True)
        self.out_proj = nn.Linear(width, config.hidden_size)
        self.action_decoder = EmbodimentMLP(robots, config.hidden_size, config.hidden_size, config.action_dim)

    def forward(
        self, features: Tensor, valid: Tensor | None, state: Tensor, embodiment: Tensor, noise: Tensor
    ) -> Tensor:
        """Denoise one chunk per sample.

        Args:
            features: (B, T, E_context) from the adapter.
            valid: (B, T) bool, False on padding; None: no padding.
            state: (B, S, max_state_dim), normalized and zero-padded.
            embodiment: (B,) int64.
            noise: (B, H, A).

        Returns:
            (B, H, A), normalized actions in the dtype of `noise`.

        Raises:
            ValueError: `num_inference_timesteps` is not a positive integer.
        """
        steps = self.num_inference_timesteps
        if type(steps) is not int or steps < 1:
            raise ValueError(f"num_inference_timesteps must be an integer >= 1, got {steps!r}")
        context = self.context(features, valid, state, embodiment)
        actions = noise
        for step in range(steps):
            bucket = int(step / steps * self.config.num_timestep_buckets)
            timesteps = torch.full((len(state),), bucket, dtype=torch.int64, device=state.device)
            actions = actions + (1.0 / steps) * self.velocity(actions, timesteps, context)
        return actions

    def context(
        self, features: Tensor, valid: Tensor | None, state: Tensor, embodiment: Tensor
    ) -> FlowContext:
        """Prepare what `velocity` needs; the arguments are those of `forward`."""
        future = self.future_tokens.expand(len(state), -1, -1)
        return FlowContext(
            attended=[cast(DiTBlock, layer).context(features) for layer in self.layers],
            mask=key_mask(valid),
            prefix=torch.cat([self.state_encoder(state, embodiment), future], dim=1),
            embodiment=embodiment,
        )

    def velocity(self, actions: Tensor, timesteps: Tensor, context: FlowContext) -> Tensor:
        """v(x, t), (B, H, A): `actions` (B, H, A) at the time buckets `timesteps` (B,) int64."""
        horizon = actions.shape[1]
        tokens = self.action_encoder(actions, timesteps, context.embodiment)
        if self.position_embedding is not None:
            tokens = tokens + self.position_embedding[:horizon]
        x = torch.cat([context.prefix, tokens], dim=1)
        condition = self.time_encoder(timesteps, x.dtype)
        for layer, attended in zip(self.layers, context.attended, strict=True):
            x = layer(x, condition, attended, context.mask)
        # Only the action tokens are decoded: what the others would say is not an action.
        x = self.out_proj(self.out_norm(x[:, -horizon:], condition))
        return self.action_decoder(x, context.embodiment)
