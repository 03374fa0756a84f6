"""A request that is ready for the network, and several of them in one batch.

Everything that can be wrong with a request is found before it meets others: it is checked, transformed and
given its noise alone. What is left to do together is the network, which computes every sample by itself: only
the order of its sums depends on the company (measured in tests/model/test_batched_policy.py).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

_TOKENS = ("eagle_input_ids", "eagle_attention_mask")


@dataclass(frozen=True, eq=False)
class PreparedObservation:
    """The network's inputs for the B samples of one request, checked and transformed.

    Attributes:
        inputs: see `GR00TTransform.apply`; prompts are (B, T), all else has another first size.
        noise: (B, H, A), where the flow starts.
        batched: whether the request had the dimension B itself, so that the answer has it too.
    """

    inputs: Mapping[str, Tensor]
    noise: Tensor
    batched: bool

    @property
    def samples(self) -> int:
        """B."""
        return len(self.noise)

    @property
    def kind(self) -> Hashable:
        """Requests of equal kind may share a batch: equal sizes, prompts within a factor of two in length.

        Shorter prompts are padded to the longest, so without that factor one long prompt would make everybody
        else's request as long as its own.
        """
        sizes = tuple(
            (name, tuple(value.shape[1:]))
            for name, value in sorted(self.inputs.items())
            if name not in _TOKENS
        )
        return (*sizes, self.inputs[_TOKENS[0]].shape[1].bit_length())


def collate(requests: Sequence[PreparedObservation], pad_token_id: int) -> dict[str, Tensor]:
    """Join the inputs of requests of one kind; prompts are padded on the left to the longest.

    Args:
        requests: at least one. A single one keeps its tensors as they are.
        pad_token_id: what fills the prompts; it is masked and changes nothing.

    Returns:
        The inputs of all samples, those of the first request first.
    """
    if len(requests) == 1:
        return dict(requests[0].inputs)
    length = max(request.inputs[_TOKENS[0]].shape[1] for request in requests)
    fill = dict(zip(_TOKENS, (pad_token_id, 0), strict=True))
    joined = {}
    for name in requests[0].inputs:
        parts = [request.inputs[name] for request in requests]
        if name in fill:
            parts = [F.pad(part, (length - part.shape[1], 0), value=fill[name]) for part in parts]
        joined[name] = torch.cat(parts)
    return joined
