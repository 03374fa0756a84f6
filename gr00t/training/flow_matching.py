"""The loss that GR00T N1.5 is trained with: conditional flow matching (arXiv 2210.02747).

    x_t = (1 - t) noise + t actions,      target velocity  u = actions - noise,
    loss = mean over the real action dimensions of (v(x_t, t) - u)^2

with t = s (1 - b), b ~ Beta(1.5, 1) and s = 0.999 (pi0, arXiv 2410.24164, appendix B): small t, where the
noise hides the actions, is seen most. The network is the one that infers, unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.model.inputs import ModelInputs
from gr00t.training.losses import Loss, Part, TrainingStep

_CONCENTRATION = 1.5
_CUTOFF = 0.999


def sample_times(count: int, generator: torch.Generator) -> Tensor:
    """Draw flow times (count,) float32 in [0, s], most of them small.

    Beta(a, 1) has the distribution function b^a, so that b = u^(1/a) of a uniform u.
    """
    uniform = torch.rand(count, generator=generator)
    return _CUTOFF * (1.0 - uniform ** (1.0 / _CONCENTRATION))


class Flow(NamedTuple):
    """Noises (D, B, H, A) and times (D, B), D draws for each of B samples."""

    noises: Tensor
    times: Tensor


class FlowMatching(Loss):
    """The loss of this file, as the first one of a run; noises and times follow from the step's seed."""

    name = "flow"

    def targets(self, model: GR00T_N1_5, step: TrainingStep) -> Mapping[str, Tensor]:
        """Noises (B, D, H, A) and times (B, D)."""
        check_actions(model, len(step.inputs.state), step.actions, step.action_mask)
        batch, horizon, width = step.actions.shape
        drawn = torch.Generator().manual_seed(step.seed_of("flow"))
        flow = draw_flow((batch, horizon, width), step.plan.draws, drawn)
        return {"noise": flow.noises.transpose(0, 1), "time": flow.times.transpose(0, 1)}

    def __call__(self, model: GR00T_N1_5, part: Part) -> tuple[Tensor, Mapping[str, float]]:
        """The share of a part in the mean over the whole step."""
        flow = Flow(part.targets["noise"].transpose(0, 1), part.targets["time"].transpose(0, 1))
        count = int(part.step.action_mask.sum())
        return masked_flow_loss(model, part.inputs, part.actions, part.action_mask, flow, count), {}


def draw_flow(shape: tuple[int, int, int], draws: int, generator: torch.Generator) -> Flow:
    """Draw noises and times for chunks of this shape (B, H, A).

    The generator is the CPU's, so that a seed means the same on every device.
    """
    drawn = [
        (torch.randn(shape, generator=generator), sample_times(shape[0], generator)) for _ in range(draws)
    ]
    noises, times = zip(*drawn, strict=True)
    return Flow(torch.stack(noises), torch.stack(times))


def check_actions(model: GR00T_N1_5, batch: int, actions: Tensor, action_mask: Tensor) -> None:
    """Find out whether there is something to learn.

    Raises:
        ValueError: shapes that do not belong together, or nothing in the mask.
    """
    shape = (batch, model.config.action_horizon, model.config.action_dim)
    if tuple(actions.shape) != shape or actions.shape != action_mask.shape:
        raise ValueError(
            f"actions {tuple(actions.shape)} and action_mask {tuple(action_mask.shape)}: "
            f"expected {shape} for both"
        )
    if not action_mask.any():
        raise ValueError("action_mask: no dimension is left to learn")


def masked_flow_loss(
    model: GR00T_N1_5, request: ModelInputs, actions: Tensor, action_mask: Tensor, flow: Flow, count: int
) -> Tensor:
    """The squared errors where the mask is True, summed and divided by `count`; the mean over the draws.

    With the numbers of a whole batch as `count`, the losses of its parts sum up to that of the batch, and so
    do their gradients. The encoder, most of the arithmetic, runs once for all draws.

    Args:
        model: in training, some of its parameters requiring gradients.
        request: the inputs, on the model's device.
        actions: (B, H, A), normalized and zero-padded, on that device.
        action_mask: (B, H, A) bool, True where an action dimension exists.
        flow: noises and times for these samples.
        count: how many numbers the mean is over.
    """
    head = model.action_head
    context = model.context(request)
    losses = []
    for drawn, when in zip(flow.noises, flow.times, strict=True):
        noise, times = drawn.to(actions.device, actions.dtype), when.to(actions.device)
        t = times[:, None, None].to(actions.dtype)
        buckets = (times * head.config.num_timestep_buckets).long()
        clock = head.clock(buckets, noise.dtype)
        velocity = head.velocity((1 - t) * noise + t * actions, clock, context)
        squared = (velocity.float() - (actions - noise).float()).square()
        losses.append((squared * action_mask).sum() / count)
    return torch.stack(losses).mean()
