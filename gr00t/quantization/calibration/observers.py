"""Static activation scales: the percentile of |x| per input channel, pooled over many requests."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class PooledPercentile:
    """The `percentile` of |x| of every channel over all rows of `requests` requests, in bounded memory.

    The percentile of R pooled values is one of their largest `(1 - percentile / 100) R`, so only that many
    are kept. How many that will be is known after the first request (its rows times `requests`); until then
    all are kept. Exact, with linear interpolation between order statistics, while later requests bring no
    more rows than the first. Should they bring more, the smallest kept value answers: a percentile that is a
    little higher than the one asked for.

    One request is one call of the whole model: the many calls that a denoising loop makes of a layer are
    pooled.
    """

    def __init__(self, percentile: float, requests: int) -> None:
        self.percentile = percentile
        self.requests = requests
        self.rows = 0
        self._kept: list[Tensor] = []  # each (rows, K) float32
        self._capacity: int | None = None

    def observe(self, x: Tensor) -> None:
        """Pool the rows of `x`, (M, K)."""
        self.rows += x.shape[0]
        self._kept.append(x.detach().abs().float())
        if self._capacity is not None:
            self._kept = [_largest(torch.cat(self._kept), self._capacity)]

    def absorb(self, other: PooledPercentile) -> None:
        """Pool what `other` has pooled, all of its rows."""
        self.rows += other.rows
        self._kept += other._kept
        if self._capacity is not None and self._kept:
            self._kept = [_largest(torch.cat(self._kept), self._capacity)]

    def end_request(self) -> None:
        """Mark the end of a request; the first one fixes how many values are kept."""
        if self._capacity is None and self.rows:
            self._capacity = math.ceil((1 - self.percentile / 100) * self.rows * self.requests) + 2
            self._kept = [_largest(torch.cat(self._kept), self._capacity)]

    def result(self) -> Tensor:
        """Return the pooled percentile, (K,) float32.

        Raises:
            ValueError: nothing was observed.
        """
        if not self.rows:
            raise ValueError("no activations were observed")
        largest = _largest(torch.cat(self._kept), self.rows)  # (kept, K), descending
        rank = (self.rows - 1) * (1 - self.percentile / 100)  # counted from the largest
        upper, lower = (min(math.floor(rank) + step, len(largest) - 1) for step in (0, 1))
        return torch.lerp(largest[upper], largest[lower], rank - math.floor(rank))


class RequestObserver(PooledPercentile):
    """What one layer is called with during one request, as far as a pool of `requests` requests can need it.

    Attributes:
        peak: the largest |x|, () float32; nan where there is one. None before the first call.
    """

    def __init__(self, percentile: float, requests: int) -> None:
        super().__init__(percentile, requests)
        self.peak: Tensor | None = None

    def observe(self, x: Tensor) -> None:
        """See `PooledPercentile`."""
        if x.numel():
            peak = x.detach().abs().amax().float()
            self.peak = peak if self.peak is None else torch.maximum(self.peak, peak)
        super().observe(x)

    def begin_request(self) -> None:
        """Forget what was seen, also of a request that failed on its way."""
        if self._capacity is None and self.rows:
            self.end_request()
        self.rows, self._kept, self.peak = 0, [], None


def _largest(values: Tensor, count: int) -> Tensor:
    """The `count` largest of each column, descending: (min(count, rows), K)."""
    return values.topk(min(count, len(values)), dim=0).values
