"""Block-diagonal orthogonal matrices: built once in float64, applied offline in float64 and online in
float32.

A rotation of width K in blocks of B is stored as `(ceil(K / B), B, B)`, or `(1, B, B)` where all blocks share
one matrix, and right-multiplied: `x' = x R`. A K that B does not divide gets a shorter last block, stored in
the corner of an identity: zero-padded inputs pass through it unharmed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gr00t.quantization.options import Rotation


def hadamard_matrix(size: int) -> Tensor:
    """Return an orthogonal, symmetric (size, size) float64 matrix that spreads energy evenly.

    Sylvester's construction where `size` is a power of two (arXiv 2404.00456 uses it against outliers); else
    its largest power-of-two factor, block-wise along the diagonal. An odd size gives the identity.
    """
    factor = size & -size
    matrix: Tensor = torch.ones(1, 1, dtype=torch.float64)
    while matrix.shape[0] < factor:
        matrix = torch.cat((torch.cat((matrix, matrix), 1), torch.cat((matrix, -matrix), 1)), 0)
    return torch.block_diag(*[matrix / factor**0.5] * (size // factor))


def block_rotation(kind: Rotation, weight: Tensor, block: int) -> Tensor:
    """Choose the rotation of the last dimension of `weight`.

    Args:
        kind: `svd` takes each block's right singular vectors, from its Gram matrix; `hadamard` is fixed.
        weight: (N, K) float64.
        block: B, channels per block.

    Returns:
        (ceil(K / B), B, B) float64, orthogonal; (1, B, B) for a Hadamard rotation whose blocks are all equal.

    Raises:
        ValueError: `kind` is not one of those two.
    """
    width = weight.shape[-1]
    blocks = -(-width // block)
    tail = width - (blocks - 1) * block
    if kind is Rotation.HADAMARD:
        if tail == block:
            return hadamard_matrix(block)[None]
        rotation = hadamard_matrix(block).repeat(blocks, 1, 1)
        rotation[-1] = torch.block_diag(hadamard_matrix(tail), torch.eye(block - tail, dtype=torch.float64))
        return rotation
    if kind is Rotation.SVD:
        columns = _into_blocks(weight, block).transpose(0, 1)  # (blocks, N, B)
        gram = columns.mT @ columns
        # Padded channels are zero: their eigenvalue must not mix with true zeros, so they are put below all
        # others.
        gram[-1, tail:, tail:] -= torch.eye(block - tail, dtype=torch.float64)
        _, vectors = torch.linalg.eigh(gram)
        vectors = vectors.flip(-1)  # largest singular value first, padding last
        signs = torch.where(vectors.sum(dim=-2, keepdim=True) < 0, -1.0, 1.0).to(vectors.dtype)
        return vectors * signs  # a sign of our own: LAPACK's differs between machines
    raise ValueError(f"ROTATION={kind.value} is not available: expected hadamard, svd or none")


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Return `x R` for x (M, K) and a rotation (blocks or 1, B, B) of the same dtype."""
    split = _into_blocks(x, rotation.shape[-1])  # (M, blocks, B)
    if rotation.shape[0] == 1:
        rotated = split @ rotation[0]
    else:
        rotated = torch.bmm(split.transpose(0, 1), rotation).transpose(0, 1)
    return rotated.flatten(1)[:, : x.shape[1]]


def rotate_back(x: Tensor, rotation: Tensor) -> Tensor:
    """Return `x R^T`, the inverse of `rotate`."""
    return rotate(x, rotation.mT)


def _into_blocks(x: Tensor, block: int) -> Tensor:
    """(M, K) -> (M, ceil(K / B), B), zero-padded."""
    return torch.nn.functional.pad(x, (0, -x.shape[-1] % block)).unflatten(-1, (-1, block))
