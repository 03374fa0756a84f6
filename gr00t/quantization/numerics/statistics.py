"""What is recorded of a layer's input: peaks of every channel and some rows, to choose its transforms by, and
many rows, to round its weight by.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from gr00t.quantization.numerics.rotations import rotate
from gr00t.quantization.settings.options import Rounding
from gr00t.quantization.settings.spec import LinearSpec

# Rows that a greedy rotation looks at. They are kept in the packs: 32 of them are 22 MB for the full-size
# model.
SAMPLED_ROWS = 32


# Rows to round by, of all requests together, at least. Those of the full-size model's 116 layers are 2.2 GB.
ROUNDED_BY_ROWS = 4096
# Smaller models keep more, which helps: as many as fit into that model's bytes before layers share theirs,
# and so many at most.
_BYTES_OF_ROWS = 2_818_572_288
MOST_ROWS = 32768


def rows_to_keep(channels: Iterable[int]) -> int:
    """Return how many rows to keep of each layer's input, of all requests together.

    Args:
        channels: of the layers' inputs.
    """
    return min(MOST_ROWS, max(ROUNDED_BY_ROWS, _BYTES_OF_ROWS // (2 * sum(channels))))


class InputsLostError(ValueError):
    """Rows to round by cannot be had any more; the message names where they were kept."""


class InputRows(Protocol):
    """Many rows of a layer's input, where they are kept.

    Attributes:
        sha256: of the rows.
    """

    @property
    def sha256(self) -> str:
        """See above."""

    def load(self) -> Tensor:
        """Return the rows, (M, K) bfloat16.

        Raises:
            InputsLostError: they cannot be had any more.
        """


class RowsInMemory:
    """Rows that were recorded just now; layers that are called with the same share them.

    Args:
        rows: (M, K) bfloat16.
    """

    def __init__(self, rows: Tensor) -> None:
        self._rows = rows
        self.sha256 = hash_rows(rows)

    def load(self) -> Tensor:
        """See `InputRows`."""
        return self._rows


def hash_rows(rows: Tensor) -> str:
    """Return the SHA-256 of rows, (M, K) bfloat16."""
    return hashlib.sha256(rows.contiguous().reshape(-1).view(torch.uint8).numpy().data).hexdigest()


class InputStatistics(NamedTuple):
    """Statistics of a layer's input, in its own basis.

    Attributes:
        peak: (K,) float32, the largest |x| of each channel.
        sample: (SAMPLED_ROWS, K) bfloat16, rows drawn evenly from all that were seen; zeros where fewer were.
        inputs: rows to round the weight by; None: none were kept.
    """

    peak: Tensor
    sample: Tensor
    inputs: InputRows | None = None

    def tensors(self) -> dict[str, Tensor]:
        """All but the rows to round by, by name."""
        return {"peak": self.peak, "sample": self.sample}

    def rows(self) -> Tensor:
        """The peaks and the sample as rows, (1 + SAMPLED_ROWS, K) float32."""
        return torch.cat((self.peak[None].float(), self.sample.float()))

    def rotated(self, rotation: Tensor) -> InputStatistics:
        """The statistics of `x R` to choose transforms by; its peaks are the sample's."""
        sample = rotate(self.sample.float(), rotation.cpu())
        return InputStatistics(sample.abs().amax(dim=0), sample.to(torch.bfloat16))


def informed_by(spec: LinearSpec, statistics: InputStatistics | None) -> LinearSpec:
    """Return what a layer becomes by what is known of its input: without rows of it, rounded to nearest."""
    has_rows = statistics is not None and statistics.inputs is not None
    rounding = spec.rounding if has_rows else Rounding.NEAREST
    return dataclasses.replace(spec, informed=statistics is not None, rounding=rounding)


class InputRecorder:
    """Records `InputStatistics` from the tensors that a layer is called with, in constant memory.

    Attributes:
        seen: how many rows it was shown.
        kept: rows to round by, each (rows, K) bfloat16; whoever shows it inputs chooses them.
    """

    def __init__(self, channels: int, seed: int = 0) -> None:
        self._peak = torch.zeros(channels)
        self._sample = torch.zeros(SAMPLED_ROWS, channels, dtype=torch.bfloat16)
        self.seen = 0
        self._generator = torch.Generator().manual_seed(seed)
        self.kept: list[Tensor] = []

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

    def result(self, inputs: InputRows | None = None) -> InputStatistics:
        """Return what was recorded, with `inputs` to round by.

        Raises:
            ValueError: nothing was.
        """
        if not self.seen:
            raise ValueError("no input was recorded")
        return InputStatistics(self._peak, self._sample, inputs)


def draw_rows(inputs: Sequence[Tensor], count: int, seed: int) -> Tensor:
    """Return `count` rows drawn evenly from all of `inputs`, each (..., K), or all where there are no more.

    Returns:
        (rows, K) bfloat16, on the CPU, in the order in which they came.
    """
    rows = torch.cat([x.reshape(-1, x.shape[-1]) for x in inputs])
    if len(rows) > count:
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
        rows = rows[order[:count].sort().values.to(rows.device)]
    return rows.to("cpu", torch.bfloat16)
