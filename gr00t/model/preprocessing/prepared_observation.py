"""A request that is ready for the network, alone or with others in one batch (`ModelInputs.cat`).

Everything that can be wrong with a request is found before it meets others: it is checked, transformed and
given its noise alone. What is left to do together is the network, which computes every sample by itself: only
the order of its sums depends on the others (measured in tests/model/test_batched_policy.py).
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from torch import Tensor

from gr00t.model.inputs import ModelInputs


@dataclass(frozen=True, eq=False)
class PreparedObservation:
    """The network's inputs for the B samples of one request, checked and transformed.

    Attributes:
        inputs: of its samples.
        noise: (B, H, A), where the flow starts.
        batched: whether the request had the dimension B itself, so that the answer has it too.
    """

    inputs: ModelInputs
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
        inputs = self.inputs
        sizes = (inputs.pixel_values.shape[1:], inputs.state.shape[1:])
        return (*map(tuple, sizes), inputs.input_ids.shape[1].bit_length())
