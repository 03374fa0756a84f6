"""Flow matching: from noise to a chunk of actions in N Euler steps.

The network gives the velocity v(x, t) that carries noise at t = 0 to actions at t = 1; x <- x + v/N, N times.
It sees t in discrete buckets, int(t * buckets), as it was trained.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gr00t.model.attention import KeysValues, key_mask
from gr00t.model.config_parts import ActionHeadConfig
from gr00t.model.dit import AdaptiveLayerNorm, TimeEncoder, dit_blocks
from gr00t.model.embodiment import ActionEncoder, EmbodimentMLP


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
        mask = key_mask(valid)
        contexts = [layer.context(features) for layer in self.layers]
        prefix = torch.cat(
            [self.state_encoder(state, embodiment), self.future_tokens.expand(len(state), -1, -1)], dim=1
        )
        actions = noise
        for step in range(steps):
            bucket = int(step / steps * self.config.num_timestep_buckets)
            timesteps = torch.full((len(state),), bucket, dtype=torch.int64, device=state.device)
            velocity = self._velocity(actions, timesteps, prefix, contexts, mask, embodiment)
            actions = actions + (1.0 / steps) * velocity
        return actions

    def _velocity(
        self,
        actions: Tensor,
        timesteps: Tensor,
        prefix: Tensor,
        contexts: list[KeysValues | None],
        mask: Tensor | None,
        embodiment: Tensor,
    ) -> Tensor:
        """v(x, t): `actions` (B, H, A) at `timesteps` (B,) behind the `prefix` tokens -> (B, H, A)."""
        horizon = actions.shape[1]
        tokens = self.action_encoder(actions, timesteps, embodiment)
        if self.position_embedding is not None:
            tokens = tokens + self.position_embedding[:horizon]
        x = torch.cat([prefix, tokens], dim=1)
        condition = self.time_encoder(timesteps, x.dtype)
        for layer, context in zip(self.layers, contexts, strict=True):
            x = layer(x, condition, context, mask)
        # Only the action tokens are decoded: what the others would say is not an action.
        x = self.out_proj(self.out_norm(x[:, -horizon:], condition))
        return self.action_decoder(x, embodiment)
