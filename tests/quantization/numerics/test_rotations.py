"""Block rotations: orthogonal whatever the size, and the algebra of a layer unchanged by them."""

from __future__ import annotations

import math

import pytest
import torch

from gr00t.quantization.numerics.rotations import (
    block_rotation,
    hadamard_matrix,
    rotate,
    rotate_back,
    rotate_rows,
)
from gr00t.quantization.settings.options import Rotation


def weight(n: int, k: int) -> torch.Tensor:
    return torch.randn(n, k, generator=torch.Generator().manual_seed(n * k), dtype=torch.float64)


@pytest.mark.parametrize("size", [1, 2, 3, 6, 16, 24, 40, 64])
def test_hadamard_is_orthogonal_for_any_size(size):
    matrix = hadamard_matrix(size)
    assert torch.allclose(matrix @ matrix.T, torch.eye(size, dtype=torch.float64), atol=1e-15)


@pytest.mark.parametrize(("size", "spread"), [(16, 16), (24, 8), (7, 1)])
def test_hadamard_spreads_one_channel_over_the_largest_power_of_two_that_divides(size, spread):
    one_channel = torch.zeros(1, size, dtype=torch.float64)
    one_channel[0, 0] = 1
    rotated = one_channel @ hadamard_matrix(size)
    assert torch.allclose(
        rotated[rotated != 0].abs(), torch.tensor(1 / math.sqrt(spread), dtype=torch.float64)
    )
    assert (rotated != 0).sum() == spread


@pytest.mark.parametrize("kind", [Rotation.HADAMARD, Rotation.SVD])
@pytest.mark.parametrize(("k", "block"), [(64, 16), (70, 16), (5, 16), (64, 1), (33, 8)])
def test_rotating_back_undoes_rotating(kind, k, block):
    rotation = block_rotation(kind, weight(40, k), block)
    assert rotation.shape[1:] == (block, block)
    x = weight(7, k)
    rotated = rotate(x, rotation)
    assert torch.allclose(
        torch.linalg.vector_norm(rotated, dim=1), torch.linalg.vector_norm(x, dim=1), rtol=1e-13
    )
    assert torch.allclose(rotate_back(rotated, rotation), x, atol=1e-13)
    assert torch.allclose(rotate_rows(x.T, rotation).T, rotated, atol=1e-13)


@pytest.mark.parametrize(("k", "block"), [(32, 8), (29, 8)])
def test_svd_gives_each_blocks_right_singular_vectors_of_torch_linalg_svd(k, block):
    w = weight(40, k)
    rotation = block_rotation(Rotation.SVD, w, block)
    for index, columns in enumerate(w.split(block, dim=1)):
        expected = torch.linalg.svd(columns).Vh.T
        width = columns.shape[1]
        found = rotation[index, :width, :width]
        # Singular vectors are unique up to their sign.
        assert torch.allclose(
            (expected * found).sum(dim=0).abs(), torch.ones(width, dtype=torch.float64), atol=1e-9
        )


def test_other_kinds_are_refused():
    with pytest.raises(
        ValueError, match="ROTATION=duquant is not chosen by block alone: expected hadamard or"
    ):
        block_rotation(Rotation.DUQUANT, weight(4, 4), 2)
