"""What 0.1.0 stored otherwise is read, refused where it cannot be, and never taken for what is stored today.

Oracle: `older`, which stores the same numbers as 0.1.0 did: two codes of up to 4 bits and two block scales of
up to 16 in a byte, else one.
"""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from gr00t.quantization.duquant_layers import DuQuantLinear
from gr00t.quantization.numerics.older_storage import is_older, packed_today
from gr00t.quantization.numerics.soundness import UnsoundError, check_state
from gr00t.quantization.numerics.storage import buffer_shapes, load_weight
from gr00t.quantization.settings.options import WeightScale
from gr00t.quantization.settings.spec import IntFormat, LinearSpec


def two_in_a_byte(values: torch.Tensor) -> torch.Tensor:
    """The even column is the low half byte."""
    nibbles = torch.nn.functional.pad(values, (0, values.shape[-1] % 2)) & 0xF
    return (nibbles[..., 0::2] | (nibbles[..., 1::2] << 4)).to(torch.uint8)


def older(layer: DuQuantLinear) -> dict[str, torch.Tensor]:
    """The state of a layer as 0.1.0 stored it."""
    state, spec = layer.packed_state(), layer.spec
    assert spec.weight is not None
    codes, scale, _ = load_weight(layer.codes, layer.block_scale, layer.row_scale, spec)
    state["codes"] = two_in_a_byte(codes.int()) if spec.weight.bits <= 4 else codes
    if "block_scale" in state:
        state["block_scale"] = two_in_a_byte(scale.int() - 9) if spec.weight.bits >= 4 else scale
    return state


def build(bits: int, k: int, **fields: object) -> DuQuantLinear:
    linear = nn.Linear(k, 24, bias=False).requires_grad_(False)
    linear.weight.copy_(torch.randn(24, k, generator=torch.Generator().manual_seed(k)))
    return DuQuantLinear.from_linear(linear, LinearSpec(k, 24, weight=IntFormat(bits), **fields))


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("k", [1, 33, 128, 200])
@pytest.mark.parametrize("granularity", WeightScale)
def test_it_becomes_what_is_stored_today(bits, k, granularity):
    layer = build(bits, k, weight_scale=granularity)
    state = older(layer)
    assert is_older(state, layer.spec) == (bits not in (4, 8))
    check_state(state, layer.spec)
    today = packed_today(state, layer.spec)
    assert today.keys() == layer.packed_state().keys()
    assert all(torch.equal(today[name], value) for name, value in layer.packed_state().items())
    assert packed_today(today, layer.spec).keys() == today.keys()


@pytest.mark.parametrize("bits", [2, 3, 5, 6, 7])
def test_no_width_of_a_row_makes_the_one_look_like_the_other(bits):
    for k, block in itertools.product(range(1, 300), (1, 16, 64)):
        spec = LinearSpec(k, 2, weight=IntFormat(bits), block_in=block)
        shapes = buffer_shapes(spec)
        state = {name: torch.zeros(shape, dtype=dtype) for name, (shape, dtype) in shapes.items()}
        assert not is_older(state, spec)


@pytest.mark.parametrize("bits", [3, 6])
def test_a_layer_is_restored_and_a_state_dict_loads(bits):
    layer = build(bits, 96)
    linear = nn.Linear(96, 24, bias=False).requires_grad_(False)
    x = torch.randn(5, 96, generator=torch.Generator().manual_seed(1))
    restored = DuQuantLinear.from_state(linear, layer.spec, older(layer))
    assert torch.equal(restored(x), layer(x))
    other = build(bits, 96)
    other.codes.zero_()
    for assign in (False, True):
        other.load_state_dict(older(layer), assign=assign)
        assert torch.equal(other(x), layer(x))
        assert torch.equal(other.codes, layer.codes)


@pytest.mark.parametrize(("bits", "code"), [(2, -3), (3, -5), (5, 16), (7, -128)])
def test_codes_beyond_their_bits_are_refused(bits, code):
    layer = build(bits, 32)
    state = older(layer)
    state["codes"][1, 0] = code % 16 if bits <= 4 else code
    with pytest.raises(UnsoundError, match=rf"^codes: -?\d+ to -?\d+, {bits} bits are"):
        check_state(state, layer.spec)


@pytest.mark.parametrize(("bits", "scale"), [(2, 0), (2, 65), (3, 255), (5, 0x00)])
def test_block_scales_that_overflow_an_int8_are_refused(bits, scale):
    layer = build(bits, 32)
    state = older(layer)
    state["block_scale"][1, 0] = scale
    with pytest.raises(UnsoundError, match=r"^block_scale: \d+ to \d+, expected 1 to"):
        check_state(state, layer.spec)


def test_a_shape_that_is_neither_is_named():
    layer = build(3, 96)
    state = older(layer)
    state["block_scale"] = state["block_scale"][:, :-1]
    with pytest.raises(UnsoundError, match=r"^codes: \(24, 48\) of uint8, in a layer .* \(24, 36\) of int8"):
        check_state(state, layer.spec)
