"""How far it is to the object that is meant, asked of labelled scenes.

Demonstrations show a few hundred placements of the objects, a hundred times each; scenes show thousands, and
who acts must find its way in all. So the future tokens are asked here, of pictures without an action, what
`waypoints` asks of demonstrations.

Shapes: N scenes, B of them in a batch - K kinds of objects - T tokens - E width of the diffusion transformer
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from examples.Libero.demo_policy.training.future_tokens import future_tokens, last_layer
from gr00t.model.network.action_head import ActionHead
from gr00t.training.losses import watched


class Reaching(nn.Module):
    """A linear guess of the way from the hand to an object, from the future tokens of a first denoising step.

    Args:
        head: the model's; not kept.
        states: (N, S, max_state_dim), as the network takes them.
        embodiment: number of the robot.
        ways: (N, K, 3) metres, nan where there is no such object.

    Raises:
        ValueError: not as many ways as states.
    """

    def __init__(self, head: ActionHead, states: Tensor, embodiment: int, ways: NDArray[np.float32]) -> None:
        super().__init__()
        if len(states) != len(ways):
            raise ValueError(f"{len(states)} states, {len(ways)} ways: expected as many")
        self._states, self._embodiment = states, embodiment
        # Standardized as waypoints are, over all objects together.
        middle = np.nanmean(ways, axis=(0, 1))
        self._ways = torch.from_numpy((ways - middle) / np.nanstd(ways, axis=(0, 1)))
        self.guess = nn.Linear(head.config.dit.width, ways.shape[-1])
        nn.init.zeros_(self.guess.weight)
        nn.init.zeros_(self.guess.bias)

    def loss(
        self,
        head: ActionHead,
        features: Tensor,
        valid: Tensor,
        chosen: NDArray[np.int64],
        kinds: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        """Mean squared error of the guess, a scalar.

        Args:
            head: with whose transformer to look.
            features: (B, T, D) from the adapter.
            valid: (B, T) bool.
            chosen: numbers of the B scenes.
            kinds: (B,) of the objects that are meant.
            generator: of the CPU, for the noise.
        """
        device = features.device
        embodiment = torch.full((len(chosen),), self._embodiment, device=device)
        context = head.context(features, valid, self._states[chosen].to(device), embodiment)
        shape = (len(chosen), head.config.action_horizon, head.config.action_dim)
        noise = torch.randn(shape, generator=generator).to(device)
        layer = last_layer(head)
        with watched(head, (layer,)) as outputs:
            head.velocity(noise, head.clock(torch.zeros_like(embodiment), noise.dtype), context)
        tokens = future_tokens(head, outputs[layer][0])
        ways = self._ways[chosen].to(device)[torch.arange(len(chosen), device=device), kinds]
        return functional.mse_loss(self.guess(tokens).float(), ways)
