"""What is recorded of a layer's input to choose its transforms by: peaks of every channel, and some rows."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gr00t.quantization.numerics.rotations import rotate

# Rows that a greedy rotation looks at. They are kept in the packs: 32 of them are 22 MB for the full-size
# model.
SAMPLED_ROWS = 32


class InputStatistics(NamedTuple):
    """Statistics of a layer's input, in its own basis.

    Attributes:
        peak: (K,) float32, the largest |x| of each channel.
        sample: (SAMPLED_ROWS, K) bfloat16, rows drawn evenly from all that were seen; zeros where fewer were.
    """

    peak: Tensor
    sample: Tensor

    def rows(self) -> Tensor:
        """The peaks and the sample as rows, (1 + SAMPLED_ROWS, K) float32."""
        return torch.cat((self.peak[None].float(), self.sample.float()))

    def rotated(self, rotation: Tensor) -> InputStatistics:
        """The statistics of `x R`; its peaks are the sample's, for those of sums do not follow from peaks."""
        sample = rotate(self.sample.float(), rotation.cpu())
        return InputStatistics(sample.abs().amax(dim=0), sample.to(torch.bfloat16))


class InputRecorder:
    """Records `InputStatistics` from the tensors that a layer is called with, in constant memory.

    Attributes:
        seen: how many rows it was shown.
    """

    def __init__(self, channels: int, seed: int = 0) -> None:
        self._peak = torch.zeros(channels)
        self._sample = torch.zeros(SAMPLED_ROWS, channels, dtype=torch.bfloat16)
        self.seen = 0
        self._generator = torch.Generator().manual_seed(seed)

    def observe(self, x: Tensor) -> None:
        """Take in `x`, (..., K).

        Raises:
            ValueError: it holds inf or nan.
        """
        rows = x.detach().reshape(-1, x.shape[-1]).float().cpu()
        peak = rows.abs().amax(dim=0)
        if not torch.isfinite(peak).all():
            raise ValueError("a recorded input holds inf or nan")
        self._peak = torch.maximum(self._peak, peak)
        # Reservoir sampling: after n rows each of them is in the sample with the same probability.
        places = torch.arange(self.seen, self.seen + len(rows))
        drawn = (torch.rand(len(rows), generator=self._generator) * (places + 1)).long()
        slots = torch.where(places < SAMPLED_ROWS, places, drawn)
        for row in torch.nonzero(slots < SAMPLED_ROWS)[:, 0].tolist():
            self._sample[slots[row]] = rows[row].to(torch.bfloat16)
        self.seen += len(rows)

    def result(self) -> InputStatistics:
        """Return what was recorded.

        Raises:
            ValueError: nothing was.
        """
        if not self.seen:
            raise ValueError("no input was recorded")
        return InputStatistics(self._peak, self._sample)
