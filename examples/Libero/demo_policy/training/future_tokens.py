"""The future tokens as they leave the diffusion transformer: what training asks where to go.

These tokens belong to no action. N1.5 trained them to foretell what will be seen (FLARE, arXiv 2505.15659);
here they foretell places, and on the way to them the transformer learns to find these.
"""

from __future__ import annotations

from torch import Tensor

from gr00t.model.network.action_head import ActionHead


def last_layer(head: ActionHead) -> str:
    """Name, within the head, of the module whose outputs `future_tokens` takes."""
    return f"layers.{len(head.layers) - 1}"


def future_tokens(head: ActionHead, output: Tensor) -> Tensor:
    """The mean of these tokens, (B, E), in an output (B, tokens, E) of the last layer."""
    future, horizon = head.config.num_future_tokens, head.config.action_horizon
    return output[:, -horizon - future : -horizon].mean(dim=1)
