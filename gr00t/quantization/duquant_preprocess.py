"""The offline half of DuQuant: what is done to a weight before it is quantized (arXiv 2406.01721).

For `y = x W^T` with a smoothing diagonal L, a permutation P and block rotations R1, R2 of the input side, and
a block rotation U of the output side,

    x' = x L^-1 R1 P R2,    W' = U^T W L R1 P R2,    y = (x' W'^T) U^T,

which is the same function for any diagonal L and orthogonal rest, and a better one to quantize: L moves the
difficulty of outlier channels from one side to the other, P shares outliers fairly between the blocks, and R
spreads those of a block over all of it. Fused in float64; the source weight is only read.

R1 is there with ROTATION=duquant only. The other rotations stand once, after the permutation: block scales
already confine an outlier to its block. L, and whatever depends on activations, needs recorded statistics;
without them P and the greedy rotations follow the weight, and there is no L.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gr00t.quantization.kernels.torch_reference import transform
from gr00t.quantization.numerics.greedy_rotation import greedy_rotation
from gr00t.quantization.numerics.rotations import (
    block_rotation,
    into_blocks,
    rotate,
    rotate_back,
    rotate_rows,
)
from gr00t.quantization.numerics.soundness import WIDEST_SMOOTHING, check_statistics
from gr00t.quantization.numerics.statistics import InputStatistics
from gr00t.quantization.settings.options import Rotation
from gr00t.quantization.settings.spec import LinearSpec

# Rows of a weight that greedy rotations follow. With all of them a layer took 15 CPU-seconds on average.
_WEIGHT_ROWS = 256


class ExactBuffers(nn.Module):
    """Registers a buffer for each annotation of the class, and keeps their dtypes.

    They move with the model, and stay in float32 whatever it is cast to: a rotation in bfloat16 is not
    orthogonal.
    """

    def __init__(self, tensors: Mapping[str, Tensor | None]) -> None:
        super().__init__()
        for name in type(self).__annotations__:
            self.register_buffer(name, tensors.get(name))

    def _apply(self, fn: Any, recurse: bool = True) -> ExactBuffers:
        exact = dict(self._buffers)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, buffer in exact.items():
            moved = self._buffers[name]
            if buffer is not None and moved is not None and moved.dtype != buffer.dtype:
                self._buffers[name] = buffer.to(moved.device)
        return self


class Transforms(ExactBuffers):
    """The transforms of one layer; None stands for the identity.

    In a state dict their names stand beside those of the layer that they are the `transforms` of.

    Buffers:
        rotation_absorbed: (K / block or 1, block, block) float, a rotation that the input arrives with: the
            weight is rotated likewise, so that the two cancel (`propagation`).
        smoothing: (K,) float, L: the input is divided by it, the weight multiplied.
        rotation_first: (ceil(K / block_in), block_in, block_in) float, R1.
        perm: (K,) integer gather index, `x[..., perm]`.
        rotation_in: (ceil(K / block_in) or 1, block_in, block_in) float, R2.
        rotation_out: (ceil(N / block_out) or 1, block_out, block_out) float, U.
    """

    rotation_absorbed: Tensor | None
    smoothing: Tensor | None
    rotation_first: Tensor | None
    perm: Tensor | None
    rotation_in: Tensor | None
    rotation_out: Tensor | None

    @classmethod
    def choose(
        cls,
        weight: Tensor,
        spec: LinearSpec,
        statistics: InputStatistics | None = None,
        rotation_absorbed: Tensor | None = None,
    ) -> Transforms:
        """Choose the transforms of `weight`, (N, K) of any float dtype, as `spec` asks.

        Raises:
            ValueError: `spec.informed` says otherwise than whether there are statistics, or `spec.absorbs`
                than whether there is a rotation to absorb.
        """
        if spec.absorbs != (rotation_absorbed is not None):
            there = "absent" if rotation_absorbed is None else "there"
            raise ValueError(f"the spec has absorbs={spec.absorbs}, but a rotation to absorb is {there}")
        if spec.informed != (statistics is not None):
            there = "absent" if statistics is None else "there"
            raise ValueError(f"the spec has informed={spec.informed}, but statistics are {there}")
        if statistics is not None:
            check_statistics(statistics, spec.in_features)
        chosen = cls({})
        absorbed = weight
        if rotation_absorbed is not None:
            absorbed = rotate(weight.double(), rotation_absorbed)
            if statistics is not None:
                statistics = statistics.rotated(rotation_absorbed)
        # What the permutation follows, (1 + M, K): the peaks, and a sample of rows, of the weight where no
        # inputs were recorded. Greedy rotations follow the sample alone: a row of peaks is larger than any
        # real one, and flattening that cost up to 2.8 dB at W4A4.
        seen = statistics or InputStatistics(
            absorbed.abs().amax(dim=0), absorbed[:: -(-len(absorbed) // _WEIGHT_ROWS)]
        )
        rows = seen.rows().to(absorbed.device)
        if statistics is not None and spec.smooths:
            chosen.smoothing = smoothing_diagonal(seen.peak, absorbed.abs().amax(dim=0), spec.smoothing)
            rows = rows / chosen.smoothing
        if spec.rotation is Rotation.DUQUANT:
            chosen.rotation_first = _greedy(rows[1:], spec.block_in)
            rows = rotate(rows.double(), chosen.rotation_first)
        if spec.permute:
            chosen.perm = snake_permutation(rows.abs().amax(dim=0), spec.block_in)
        chosen._choose_second_rotations(absorbed, rows, spec)
        chosen.rotation_absorbed = rotation_absorbed
        return chosen

    def _choose_second_rotations(self, weight: Tensor, rows: Tensor, spec: LinearSpec) -> None:
        """The rotations after the permutation: of the input by `rows`, and of the output.

        Nothing is absorbed yet: `weight` is rotated already.
        """
        if spec.rotation is Rotation.NONE:
            return
        # Only the singular vectors depend on the weight's values.
        if spec.rotation is Rotation.SVD:
            weight = self.fuse(weight, dtype=torch.float32)
        if spec.rotation is Rotation.DUQUANT:
            rows = rows if self.perm is None else rows.index_select(1, self.perm)
            rotation_in = _greedy(rows[1:], spec.block_in)
        else:
            rotation_in = block_rotation(spec.rotation, weight, spec.block_in)
        if spec.rotates_rows:
            self.rotation_out = block_rotation(spec.output_rotation, weight.T, spec.block_out)
        self.rotation_in = rotation_in

    def keep(self, chosen: Transforms) -> None:
        """Copy the values of `chosen` into the buffers that are there, in their dtypes."""
        for name, buffer in self._buffers.items():
            value = chosen._buffers[name]
            if buffer is not None and value is not None:
                buffer.copy_(value)

    def fuse(self, weight: Tensor, first_row: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
        """Return `W' = U^T W L R1 P R2` for a weight (N, K) or a run of its rows.

        Args:
            weight: rows `first_row` and following, (rows, K); only read.
            first_row: where they stand in the whole weight; a multiple of block_out, as is their number
                unless they are the last.
            dtype: to compute in; float64 wherever the result is quantized.
        """
        weight = weight.to(dtype)
        if self.rotation_absorbed is not None:
            weight = rotate(weight, self.rotation_absorbed)
        if self.smoothing is not None:
            weight = weight * self.smoothing
        if self.rotation_first is not None:
            weight = rotate(weight, self.rotation_first)
        if self.perm is not None:
            # On float64 gather is three times faster than index_select.
            weight = weight.gather(1, self.perm.long().expand(len(weight), -1))
        if self.rotation_in is not None:
            weight = rotate(weight, self.rotation_in)
        if self.rotation_out is not None:
            rotation_out = self.rotation_out
            if rotation_out.shape[0] > 1:
                block = rotation_out.shape[-1]
                rotation_out = rotation_out[first_row // block : -(-(first_row + len(weight)) // block)]
            weight = rotate_rows(weight, rotation_out)
        return weight

    def unfuse(self, weight: Tensor) -> Tensor:
        """Return `U W' R2^T P^T R1^T L^-1`, (N, K) float64, the weight for the input as it arrives.

        The inverse of `fuse`, but for a rotation absorbed: that stays.
        """
        weight = weight.double()
        if self.rotation_out is not None:
            weight = rotate_rows(weight, self.rotation_out.mT)
        if self.rotation_in is not None:
            weight = rotate_back(weight, self.rotation_in)
        if self.perm is not None:
            weight = weight.index_select(1, torch.argsort(self.perm))
        if self.rotation_first is not None:
            weight = rotate_back(weight, self.rotation_first)
        return weight if self.smoothing is None else weight / self.smoothing

    def forward(self, x: Tensor) -> Tensor:
        """Return `x L^-1 R1 P R2` in float32 for x (M, K): what is done online."""
        return transform(x, self.smoothing, self.rotation_first, self.perm, self.rotation_in)

    def undo(self, h: Tensor) -> Tensor:
        """Return `h R2^T P^T R1^T L` in float32 for h (M, K): the inverse of `forward`."""
        if self.rotation_in is not None:
            h = rotate_back(h, self.rotation_in)
        if self.perm is not None:
            h = torch.empty_like(h).index_copy_(1, self.perm.long(), h)
        if self.rotation_first is not None:
            h = rotate_back(h, self.rotation_first)
        return h if self.smoothing is None else h * self.smoothing

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix.removesuffix("transforms."), keep_vars)


def smoothing_diagonal(input_peaks: Tensor, weight_peaks: Tensor, strength: float) -> Tensor:
    """Return `(max|x_j| / max|w_j|)^a`, scaled to a geometric mean of 1.

    At a = 0.5 this is SmoothQuant's diagonal (arXiv 2211.10438, equation 4), `max|x|^a / max|w|^(1 - a)`. At
    other a that one is a different thing: a small a levels the weight almost wholly, whatever that does to
    the inputs. With a = 0.15 it cost the down projections of a sentence encoder 11 dB, this one nothing
    (docs/QUALITY.md).

    Args:
        input_peaks: (K,) largest |x| of each input channel.
        weight_peaks: (K,) largest |w| of each.
        strength: a, in (0, 1]: how much of the difference between the two sides is levelled; 0.5: both alike.

    Returns:
        (K,) float64. Channels that are zero on either side keep 1.
    """
    x, w = input_peaks.double().to(weight_peaks.device), weight_peaks.double()
    alive = (x > 0) & (w > 0)
    logarithm = torch.where(alive, strength * (x.log() - w.log()), 0.0)
    mean = logarithm.sum() / alive.sum().clamp_min(1)
    return torch.where(alive, (logarithm - mean).clamp(-WIDEST_SMOOTHING, WIDEST_SMOOTHING).exp(), 1.0)


def _greedy(rows: Tensor, block: int) -> Tensor:
    """The greedy rotation for rows (M, K), seeded by their bytes: the same layer, the same rotation."""
    rows = rows.double()
    seed = int.from_bytes(hashlib.sha256(rows.cpu().numpy().tobytes()).digest()[:7], "big")
    return greedy_rotation(into_blocks(rows, block).transpose(0, 1), rows.shape[1], seed)


def snake_permutation(peaks: Tensor, block: int) -> Tensor:
    """Deal channels, largest peak first, over the blocks in snake order: 1 2 3 4 | 4 3 2 1 | 1 2 ...

    So every block gets its share of the outliers and block means even out (DuQuant, section 3.2). A full
    block is passed over, which only happens to a shorter last one.

    Args:
        peaks: (K,) the channels' largest magnitudes.
        block: channels per block.

    Returns:
        (K,) int64 gather index; block b's channels stand at [b * block, (b + 1) * block).
    """
    channels = peaks.numel()
    blocks = -(-channels // block)
    tail = channels - (blocks - 1) * block
    forward = torch.arange(blocks, device=peaks.device)
    rounds = [forward if turn % 2 == 0 else forward.flip(0) for turn in range(block)]
    if tail < block:
        rounds[tail:] = [hands[hands != blocks - 1] for hands in rounds[tail:]]
    owner = torch.cat(rounds)  # owner[i]: the block that the i-th largest channel goes to
    largest_first = torch.argsort(peaks, descending=True, stable=True)
    return largest_first[torch.argsort(owner, stable=True)]
