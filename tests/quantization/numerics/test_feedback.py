"""Error-feedback rounding, against what defines it.

Oracles: GPTQ as its paper has it, by the inverse of the Hessian, one weight after the other; the definition
of the factor; and the output error itself, on inputs that nothing was chosen by.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gr00t.quantization.numerics.feedback import round_with_feedback
from gr00t.quantization.numerics.hessian import Factor, factorize
from gr00t.quantization.numerics.metrics import sqnr_db
from gr00t.quantization.numerics.quantizers import (
    TRIED_SCALES,
    QuantizedWeight,
    integer_weight,
    quantize_weight,
)
from gr00t.quantization.settings.options import WeightScale
from gr00t.quantization.settings.spec import IntFormat


def correlated(rows: int, channels: int, seed: int = 0) -> torch.Tensor:
    """Inputs whose spectrum falls as 1 / i, in a basis of no channel's own; float64."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(
        torch.randn(channels, channels, generator=torch.Generator().manual_seed(channels)).double()
    )[0]
    spectrum = torch.arange(1, channels + 1).double().rsqrt()
    return torch.randn(rows, channels, generator=generator).double() * spectrum @ basis


def normal(rows: int, channels: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(rows, channels, generator=torch.Generator().manual_seed(seed)).double()


def rounded(
    weight: torch.Tensor, factor: Factor, bits: int, block: int, granularity: WeightScale
) -> QuantizedWeight:
    fmt = IntFormat(bits)
    row_scale = quantize_weight(weight, fmt, block, granularity).row_scale
    return round_with_feedback(weight, row_scale, factor, fmt, block, granularity)


def gptq(
    weight: torch.Tensor, row_scale: torch.Tensor, hessian: torch.Tensor, bits: int, block: int, largest: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The oracle: the paper's loop over each row, weights after k changed by the inverse of what is left."""
    fmt, w, (rows, channels) = IntFormat(bits), weight.clone(), weight.shape
    codes, scales = torch.zeros(rows, channels), torch.zeros(rows, -(-channels // block))
    for row in range(rows):
        step = row_scale[row].double().item()
        for k in range(channels):
            left = torch.linalg.inv(hessian[k:, k:])
            if k % block == 0:
                this = w[row, k : k + block]
                weights = [1 / torch.linalg.inv(hessian[j:, j:])[0, 0] for j in range(k, k + len(this))]
                start = min(largest, max(1, int(torch.ceil(this.abs().max() / step / fmt.qmax))))
                tried = [max(1, start - less) for less in range(min(TRIED_SCALES, fmt.largest_block_scale))]
                errors = []
                for g in tried if largest > 1 else [1]:
                    code = (this / step / g).round().clamp(fmt.qmin, fmt.qmax)
                    errors.append(sum(d * e**2 for d, e in zip(weights, this / step - g * code, strict=True)))
                g = tried[min(range(len(errors)), key=errors.__getitem__)] if largest > 1 else 1
                scales[row, k // block] = g
            code = (w[row, k] / step / g).round().clamp(fmt.qmin, fmt.qmax)
            codes[row, k] = code
            w[row, k:] -= (w[row, k] - step * g * code) / left[0, 0] * left[0]
    return codes.to(torch.int8), scales.to(torch.uint8)


@pytest.mark.parametrize("granularity", WeightScale)
@pytest.mark.parametrize(("bits", "block"), [(2, 4), (3, 16), (4, 16), (4, 5), (6, 7), (8, 64), (5, 1)])
def test_what_is_multiplied_is_that_of_gptq_with_scales_chosen_on_the_way(bits, block, granularity):
    weight, inputs = normal(5, 41), correlated(64, 41)
    factor = factorize(inputs)
    found = rounded(weight, factor, bits, block, granularity)
    hessian = inputs.T @ inputs / 64
    hessian += factor.damping * hessian.diagonal().mean() * torch.eye(41).double()
    largest = IntFormat(bits).largest_block_scale if granularity is WeightScale.BLOCK else 1
    codes, scales = gptq(weight, found.row_scale, hessian, bits, block, largest)
    # Their products: 5 * 12 is as good as 4 * 15, and the last bit of an error decides.
    assert torch.equal(
        integer_weight(found.codes, found.block_scale, block), integer_weight(codes, scales, block)
    )


@given(st.integers(1, 60), st.integers(1, 90), st.integers(0, 100))
def test_the_factor_is_one_of_the_damped_hessian(rows, channels, seed):
    inputs = correlated(rows, channels, seed)
    ratios, weights, damping = factorize(inputs)
    assert damping == 0.1
    assert torch.equal(ratios.triu().diagonal(), torch.ones(channels).double())
    assert torch.equal(ratios, ratios.triu())
    assert (weights > 0).all()
    wanted = inputs.T @ inputs / rows
    wanted += 0.1 * wanted.diagonal().mean() * torch.eye(channels).double()
    assert (ratios * weights @ ratios.T - wanted).abs().max() <= 1e-12 * wanted.abs().max()


def test_a_wide_hessian_is_computed_by_columns_to_the_same():
    inputs = correlated(40, 1100)
    wanted = inputs.T @ inputs / 40
    wanted += 0.1 * wanted.diagonal().mean() * torch.eye(1100).double()
    ratios, weights, _ = factorize(inputs)
    assert (ratios * weights @ ratios.T - wanted).abs().max() <= 1e-12 * wanted.abs().max()


def test_damping_is_raised_until_the_hessian_is_positive():
    """One direction 1e12 times as strong as the damping: float32 does not see the damping beside it."""
    inputs = torch.ones(8, 64) + 1e-4 * normal(8, 64).float()
    assert factorize(inputs).damping == 0.1
    assert factorize(inputs, damping=1e-9).damping == pytest.approx(1e-6, rel=10)
    assert factorize(inputs, damping=1e-9).damping > 1e-9


def test_silent_inputs_let_every_channel_count_alike():
    ratios, weights, _ = factorize(torch.zeros(5, 7))
    assert torch.equal(ratios, torch.eye(7))
    assert len(set(weights.tolist())) == 1
    weight = normal(4, 7)
    silent = rounded(weight, factorize(torch.zeros(5, 7).double()), 4, 4, WeightScale.BLOCK)
    nearest = quantize_weight(weight, IntFormat(4), 4, WeightScale.BLOCK)
    assert torch.equal(silent.codes, nearest.codes)


@pytest.mark.parametrize("value", [torch.inf, torch.nan, 1e30])
def test_inputs_that_are_not_finite_are_refused(value):
    inputs = torch.ones(3, 4)
    inputs[1, 2] = value
    with pytest.raises(ValueError, match="inf or nan, or numbers whose squares are too large"):
        factorize(inputs)


@pytest.mark.parametrize(("bits", "gain"), [(2, 2.0), (3, 2.0), (4, 2.0), (8, 2.0)])
def test_the_output_is_nearer_by_some_decibels_on_inputs_not_seen(bits, gain):
    weight, seen, unseen = normal(64, 256), correlated(1024, 256), correlated(512, 256, seed=9)
    nearest = quantize_weight(weight, IntFormat(bits), 16, WeightScale.BLOCK)
    feedback = rounded(weight, factorize(seen), bits, 16, WeightScale.BLOCK)
    found = []
    for one in (nearest, feedback):
        used = integer_weight(one.codes, one.block_scale, 16).double() * one.row_scale
        found.append(sqnr_db(unseen @ weight.T, unseen @ used.T))
    assert found[1] - found[0] > gain, found


@pytest.mark.parametrize("bits", range(2, 9))
def test_codes_keep_their_format_and_the_operand_is_an_int8(bits):
    weight = normal(20, 70) * torch.logspace(-3, 3, 70)
    found = rounded(weight, factorize(correlated(90, 70)), bits, 16, WeightScale.BLOCK)
    fmt = IntFormat(bits)
    assert (found.codes.dtype, found.block_scale.dtype) == (torch.int8, torch.uint8)
    assert (found.codes.shape, found.block_scale.shape) == ((20, 70), (20, 5))
    assert fmt.qmin <= found.codes.min() <= found.codes.max() <= fmt.qmax
    assert 1 <= found.block_scale.min() <= found.block_scale.max() <= fmt.largest_block_scale
    product = found.codes.int() * found.block_scale.int().repeat_interleave(16, dim=1)[:, :70]
    assert torch.equal(integer_weight(found.codes, found.block_scale, 16).int(), product)
