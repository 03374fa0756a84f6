"""The loss that GR00T N1.5 is trained with: conditional flow matching (arXiv 2210.02747).

    x_t = (1 - t) noise + t actions,      target velocity  u = actions - noise,
    loss = mean over the real action dimensions of (v(x_t, t) - u)^2

with t = s (1 - b), b ~ Beta(1.5, 1) and s = 0.999 (pi0, arXiv 2410.24164, appendix B): small t, where the
noise hides the actions, is seen most. The network is the one that infers, unchanged.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.model.inputs import ModelInputs

_CONCENTRATION = 1.5
_CUTOFF = 0.999


def sample_times(count: int, generator: torch.Generator) -> Tensor:
    """Draw flow times (count,) float32 in [0, s], most of them small.

    Beta(a, 1) has the distribution function b^a, so that b = u^(1/a) of a uniform u.
    """
    uniform = torch.rand(count, generator=generator)
    return _CUTOFF * (1.0 - uniform ** (1.0 / _CONCENTRATION))


def flow_matching_loss(
    model: GR00T_N1_5,
    request: ModelInputs,
    actions: Tensor,
    action_mask: Tensor,
    generator: torch.Generator,
    *,
    draws: int = 1,
) -> Tensor:
    """The loss of one batch, a scalar with a gradient.

    Args:
        model: in training, some of its parameters requiring gradients.
        request: the inputs, on the model's device.
        actions: (B, H, A), normalized and zero-padded.
        action_mask: (B, H, A) bool, True where an action dimension exists.
        generator: of the CPU; draws noise and times, so that a seed means the same on every device.
        draws: noises and times per sample. The encoder, most of the arithmetic, runs once for all of them.

    Raises:
        ValueError: shapes that do not belong together, or nothing in the mask.
    """
    shape = (len(request.state), model.config.action_horizon, model.config.action_dim)
    if tuple(actions.shape) != shape or actions.shape != action_mask.shape:
        raise ValueError(
            f"actions {tuple(actions.shape)} and action_mask {tuple(action_mask.shape)}: "
            f"expected {shape} for both"
        )
    if not action_mask.any():
        raise ValueError("action_mask: no dimension is left to learn")
    head = model.action_head
    context = head.context(model.encode(request), request.valid, request.state, request.embodiment)
    losses = []
    for _ in range(draws):
        noise = torch.randn(shape, generator=generator).to(actions.device, actions.dtype)
        times = sample_times(len(actions), generator).to(actions.device)
        t = times[:, None, None].to(actions.dtype)
        buckets = (times * head.config.num_timestep_buckets).long()
        velocity = head.velocity((1 - t) * noise + t * actions, buckets, context)
        squared = (velocity.float() - (actions - noise).float()).square()
        losses.append((squared * action_mask).sum() / action_mask.sum())
    return torch.stack(losses).mean()
