"""The offline half of DuQuant: what is done to a weight before it is quantized (arXiv 2406.01721).

For `y = x W^T` with a permutation P and a block rotation R of the input side, and a block rotation U of the
output side,

    x' = x P R,    W' = U^T W P R,    y = (x' W'^T) U^T,

which is the same function for any orthogonal P, R, U, and a better one to quantize when R spreads the
outliers of a block over all of it and P shares them fairly between the blocks. Fused in float64; the source
weight is only read.

Two things differ from the paper. One rotation stands where it has two around the permutation, because block
scales already confine an outlier to its block. And the permutation is driven by the weight where no
activations were recorded.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from gr00t.quantization.options import Rotation
from gr00t.quantization.rotations import block_rotation, rotate, rotate_back, rotate_rows
from gr00t.quantization.spec import LinearSpec


@dataclasses.dataclass(frozen=True)
class Transforms:
    """The orthogonal transforms of one layer; None stands for the identity.

    Attributes:
        perm: (K,) integer gather index, `x[..., perm]`.
        rotation_in: (ceil(K / block_in), block_in, block_in) float.
        rotation_out: (ceil(N / block_out), block_out, block_out) float.
    """

    perm: Tensor | None
    rotation_in: Tensor | None
    rotation_out: Tensor | None

    @classmethod
    def for_weight(cls, weight: Tensor, spec: LinearSpec) -> Transforms:
        """Choose the transforms of `weight`, (N, K) of any float dtype, as `spec` asks."""
        perm = snake_permutation(weight.abs().amax(dim=0), spec.block_in) if spec.permute else None
        if spec.rotation is Rotation.NONE:
            return cls(perm, None, None)
        permuted = weight if perm is None else weight.index_select(1, perm)
        rotation_in = block_rotation(spec.rotation, permuted, spec.block_in)
        rotation_out = (
            block_rotation(spec.rotation, permuted.T, spec.block_out) if spec.rotates_rows else None
        )
        return cls(perm, rotation_in, rotation_out)

    def fuse(self, weight: Tensor, first_row: int = 0) -> Tensor:
        """Return `W' = U^T W P R`, float64, for a weight (N, K) or a run of its rows.

        Args:
            weight: rows `first_row` and following, (rows, K); only read.
            first_row: where they stand in the whole weight; a multiple of block_out, as is their number
                unless they are the last.
        """
        weight = weight.double()
        if self.perm is not None:
            weight = weight.index_select(1, self.perm)
        if self.rotation_in is not None:
            weight = rotate(weight, self.rotation_in.double())
        if self.rotation_out is not None:
            rotation_out = self.rotation_out
            if rotation_out.shape[0] > 1:
                block = rotation_out.shape[-1]
                rotation_out = rotation_out[first_row // block : -(-(first_row + len(weight)) // block)]
            weight = rotate_rows(weight, rotation_out.double())
        return weight

    def unfuse(self, weight: Tensor) -> Tensor:
        """Return `U W' R^T P^T`, (N, K) float64: the inverse of `fuse`."""
        weight = weight.double()
        if self.rotation_out is not None:
            weight = rotate_rows(weight, self.rotation_out.double().mT)
        if self.rotation_in is not None:
            weight = rotate_back(weight, self.rotation_in.double())
        if self.perm is not None:
            weight = weight.index_select(1, torch.argsort(self.perm))
        return weight


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
