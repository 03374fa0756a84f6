"""Random changes of states and actions in training: noise, and leaving them out.

Draws come from torch's global generator, for every sample its own. In eval mode both are identities.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from gr00t.data.errors import ObservationError
from gr00t.data.schema import DatasetMetadata
from gr00t.data.transform.base import ModalityTransform
from gr00t.data.transform.parameters import DeviationOrOff, ProbabilityOrOff
from gr00t.spelling import did_you_mean

logger = logging.getLogger(__name__)


class StateActionPerturbation(ModalityTransform):
    """Normal noise on each number, cut off where the sample's own numbers of that key end.

    So it is in N1.5. A key with one number at one time step has no range, and is left as it is.
    """

    std: DeviationOrOff = Field(..., description="standard deviation of the noise; negative: none")

    def set_metadata(self, dataset_metadata: DatasetMetadata) -> None:
        """Warn of keys with a single number, which stay without noise unless they have several time steps."""
        super().set_metadata(dataset_metadata)
        single = [
            key
            for key in self.apply_to
            if dataset_metadata.entry(dataset_metadata.modalities, key).shape == (1,)
        ]
        if single and self.std > 0:
            logger.warning(
                "StateActionPerturbation cuts noise off at the range of a sample's own numbers, as in N1.5: "
                "at a single time step %s stay without noise, having one number each",
                ", ".join(single),
            )

    def apply(self, data: dict[str, Any]) -> dict[str, Any]:
        """Add noise to the tensors (..., T, A) under `apply_to` in train mode.

        Raises:
            ObservationError: a key is missing, or is no tensor.
        """
        if self.training and self.std > 0:
            for key in self.apply_to:
                value = _tensor(data, key)
                noisy = value + self.std * torch.randn_like(value)
                low, high = value.amin(dim=(-2, -1), keepdim=True), value.amax(dim=(-2, -1), keepdim=True)
                data[key] = torch.clamp(noisy, low, high)
        return data


class StateActionDropout(ModalityTransform):
    """Zeros instead of all the keys of `apply_to` at once, for a share of all samples."""

    dropout_prob: ProbabilityOrOff = Field(..., description="probability; negative: never")

    def apply(self, data: dict[str, Any]) -> dict[str, Any]:
        """Blank the tensors (..., T, A) under `apply_to` of the samples that were drawn, in train mode.

        Raises:
            ObservationError: a key is missing, or is no tensor.
        """
        if self.training and self.dropout_prob > 0:
            values = {key: _tensor(data, key) for key in self.apply_to}
            samples = {value.shape[:-2] for value in values.values()}
            if len(samples) > 1:
                raise ObservationError(f"{', '.join(values)}: of different numbers of samples")
            for lead in samples:
                dropped = (torch.rand(lead) < self.dropout_prob)[..., None, None]
                data.update({key: value.masked_fill(dropped, 0) for key, value in values.items()})
        return data


def _tensor(data: dict[str, Any], key: str) -> Tensor:
    if key not in data:
        raise ObservationError(f"no {key!r} in the sample; {did_you_mean(key, data)}")
    if not isinstance(data[key], Tensor) or data[key].ndim < 2:
        raise ObservationError(f"{key}: random changes come after StateActionToTensor, on (..., T, A)")
    value: Tensor = data[key]
    return value
