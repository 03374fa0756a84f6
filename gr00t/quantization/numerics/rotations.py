"""Block-diagonal orthogonal matrices: built once in float64, applied offline in float64 and online in
float32.

A rotation of width K in blocks of B is stored as `(ceil(K / B), B, B)`, or `(1, B, B)` where all blocks share
one matrix, and right-multiplied: `x' = x R`. A K that B does not divide gets a shorter last block, stored in
the corner of an identity: zero-padded inputs pass through it unharmed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gr00t.quantization.settings.options import Rotation


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
        weight: (N, K), any float dtype.
        block: B, channels per block.

    Returns:
        (ceil(K / B), B, B) float64, orthogonal; (1, B, B) for a Hadamard rotation whose blocks are all equal.

    Raises:
        ValueError: `kind` is not one of those two.
    """
    if kind is Rotation.HADAMARD:
        return _hadamard_rotation(weight.shape[-1], block).to(weight.device)
    if kind is Rotation.SVD:
        return _svd_rotation(weight, block)
    raise ValueError(f"ROTATION={kind.value} is not chosen by block alone: expected hadamard or svd")


def _hadamard_rotation(width: int, block: int) -> Tensor:
    tail = width % block
    if not tail:
        return hadamard_matrix(block)[None]
    rotation = hadamard_matrix(block).repeat(-(-width // block), 1, 1)
    rotation[-1] = torch.block_diag(hadamard_matrix(tail), torch.eye(block - tail, dtype=torch.float64))
    return rotation


def _svd_rotation(weight: Tensor, block: int) -> Tensor:
    # The Gram matrix may be float32: its eigenvectors, in float64, are orthogonal whatever it is off by.
    columns = into_blocks(weight.float(), block).transpose(0, 1)  # (blocks, N, B)
    gram = (columns.mT @ columns).double()
    padded = -weight.shape[-1] % block
    if padded:
        # Padded channels are zero: put their eigenvalues below those of channels that merely happen to be.
        gram[-1, -padded:, -padded:] -= torch.eye(padded, dtype=gram.dtype, device=gram.device)
    vectors = torch.linalg.eigh(gram).eigenvectors.flip(-1)  # largest singular value first, padding last
    # A sign of our own: LAPACK's differs between machines.
    return vectors * torch.where(vectors.sum(dim=-2, keepdim=True) < 0, -1.0, 1.0).to(vectors.dtype)


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Return `x R` for x (M, K) and a rotation (blocks or 1, B, B), in the dtype of x."""
    rotation = rotation.to(x.dtype)
    split = into_blocks(x, rotation.shape[-1])  # (M, blocks, B)
    if rotation.shape[0] == 1:
        rotated = split @ rotation[0]
    else:
        rotated = torch.bmm(split.transpose(0, 1), rotation).transpose(0, 1)
    return rotated.flatten(1)[:, : x.shape[1]]


def rotate_back(x: Tensor, rotation: Tensor) -> Tensor:
    """Return `x R^T`, the inverse of `rotate`."""
    return rotate(x, rotation.mT)


def rotate_rows(x: Tensor, rotation: Tensor) -> Tensor:
    """Return `R^T x`, which is `rotate(x.T, R).T` without the two transposed copies: (N, K) both."""
    rotation = rotation.to(x.dtype)
    split = torch.nn.functional.pad(x, (0, 0, 0, -x.shape[0] % rotation.shape[-1]))
    split = split.unflatten(0, (-1, rotation.shape[-1]))  # (blocks, B, K)
    return (rotation.mT @ split).flatten(0, 1)[: x.shape[0]]


def into_blocks(x: Tensor, block: int) -> Tensor:
    """Return x (M, K) as (M, ceil(K / B), B), zero-padded."""
    return torch.nn.functional.pad(x, (0, -x.shape[-1] % block)).unflatten(-1, (-1, block))
