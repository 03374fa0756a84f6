"""The offline transforms: the plain layer's function, outliers dealt fairly, the source only read."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gr00t.quantization.duquant_preprocess import Transforms, snake_permutation
from gr00t.quantization.numerics.metrics import sqnr_db
from gr00t.quantization.numerics.rotations import rotate_back
from gr00t.quantization.numerics.statistics import InputStatistics
from gr00t.quantization.settings.options import Rotation, RowRotation
from gr00t.quantization.settings.spec import LinearSpec


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(st.integers(1, 200), st.integers(1, 40))
def test_snake_is_a_permutation(channels, block):
    perm = snake_permutation(normal(channels).abs(), block)
    assert perm.sort().values.tolist() == list(range(channels))


def test_snake_deals_the_largest_channels_one_to_each_block():
    perm = snake_permutation(torch.arange(2048).float(), 64)
    largest = set(range(2048 - 32, 2048))
    assert [len(largest & set(block.tolist())) for block in perm.split(64)] == [1] * 32


def test_snake_turns_round_at_the_end():
    # 8 7 | 6 5 dealt 1 2 | 2 1: block 0 gets ranks 0, 3, 4, 7.
    perm = snake_permutation(torch.arange(8, 0, -1).float(), 4)
    assert [block.tolist() for block in perm.split(4)] == [[0, 3, 4, 7], [1, 2, 5, 6]]


def statistics(channels: int) -> InputStatistics:
    """Inputs with one channel in ten twenty times larger."""
    x = normal(100, channels, seed=5)
    x[:, ::10] *= 20
    return InputStatistics(x.abs().amax(dim=0), x[:32].bfloat16())


@pytest.mark.parametrize("informed", [False, True])
@pytest.mark.parametrize(
    ("permute", "rotation", "row_rotation", "block"),
    list(itertools.product((True, False), Rotation, RowRotation, (16, 24))),
)
def test_transformed_layer_equals_the_plain_one_above_120_db(
    permute, rotation, row_rotation, block, informed
):
    """Oracle: x W^T in float64; K and N are no multiples of the block. Measured: 137.8 dB and more."""
    spec = LinearSpec(
        70,
        52,
        permute=permute,
        rotation=rotation,
        row_rotation=row_rotation,
        block_in=block,
        block_out=block,
        smoothing=0.5,
        informed=informed,
    )
    weight, x = normal(52, 70), normal(9, 70, seed=1)
    transforms = Transforms.choose(weight, spec, statistics(70) if informed else None)
    y = transforms(x).double() @ transforms.fuse(weight).T
    y = y if transforms.rotation_out is None else rotate_back(y, transforms.rotation_out.double())
    assert sqnr_db(x.double() @ weight.double().T, y) > 120
    assert sqnr_db(weight, transforms.unfuse(transforms.fuse(weight))) > 240
    assert sqnr_db(x, transforms.undo(transforms(x))) > 120
    assert (transforms.rotation_out is not None) == spec.rotates_rows
    assert (transforms.smoothing is not None) == informed


def test_the_source_weight_is_never_changed():
    weight = normal(32, 48)
    before = weight.clone()
    Transforms.choose(weight, LinearSpec(48, 32, permute=False)).fuse(weight)
    assert torch.equal(weight, before)
