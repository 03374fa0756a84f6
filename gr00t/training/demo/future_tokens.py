"""The future tokens as they leave the diffusion transformer: what training asks where to go.

These tokens belong to no action. N1.5 trained them to foretell what will be seen (FLARE, arXiv 2505.15659);
here they foretell places, and on the way to them the transformer learns to find these.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from gr00t.model.network.action_head import ActionHead


@contextmanager
def future_tokens(head: ActionHead) -> Iterator[list[Tensor]]:
    """A list that grows by the mean of these tokens, (B, E), with every `head.velocity` in this context."""
    future, horizon = len(head.future_tokens), head.config.action_horizon
    seen: list[Tensor] = []

    def keep(module: Any, inputs: Any, output: Tensor) -> None:
        seen.append(output[:, -horizon - future : -horizon].mean(dim=1))

    hook = head.layers[-1].register_forward_hook(keep)
    try:
        yield seen
    finally:
        hook.remove()
