"""Codes of the compiled kernels where rounding is hardest: they multiply by 1 / scale, and divide near ties.

Oracle: PyTorch's float32 division and its rounding, half to even.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from gr00t.quantization.kernels import library
from gr00t.quantization.kernels.operators import linear, prologue
from gr00t.quantization.numerics.quantizers import SMALLEST_SCALE
from tests.quantization.kernels.kernel_layers import no_operands

_LARGEST = torch.finfo(torch.float32).max


@pytest.fixture(autouse=True)
def _needs_kernels(native_kernels):
    if not native_kernels:
        pytest.skip(f"no compiled kernels ({library.why_not()}); install a C++ compiler")


def near_ties(bits: int, peak: float) -> tuple[Tensor, Tensor]:
    """Return a row (1, K) whose quotients lie on and beside every tie, and its scale (1, 1)."""
    largest = 2 ** (bits - 1) - 1
    scale = (torch.tensor([[peak]]) / largest).clamp_min(SMALLEST_SCALE)
    ties = ((torch.arange(-largest, largest) + 0.5).double() * scale.double()).float().numpy().ravel()
    beside = [ties]
    for towards in (np.float32(-np.inf), np.float32(np.inf)):
        neighbour = ties
        for _ in range(4):
            neighbour = np.nextafter(neighbour, towards)
            beside.append(neighbour)
    least = torch.finfo(torch.float32).smallest_normal
    tiny = torch.tensor([0.0, -0.0, 1e-45, -1e-45, least, -least / 2, peak, -peak])
    return torch.cat((torch.from_numpy(np.concatenate(beside)), tiny)).clamp(-peak, peak)[None], scale


def peaks() -> list[float]:
    """Of rows: any mantissa, from where the smallest scale ends to the largest number, and rows of zeros."""
    generator = torch.Generator().manual_seed(7)
    mantissas = torch.rand(500, generator=generator) + 1
    exponents = torch.randint(-110, 127, (500,), generator=generator)
    extreme = [
        0.0,
        1e-45,
        1e-38,
        SMALLEST_SCALE,
        SMALLEST_SCALE * 127,
        1.0,
        127.0,
        _LARGEST,
        1.001 * 2.0**126,
    ]
    return [*torch.ldexp(mantissas, exponents).tolist(), *extreme]


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_codes_beside_every_tie_are_those_of_a_division(bits, native_kernels):
    differing = 0
    for peak in peaks():
        x, scale = near_ties(bits, peak)
        expected = (x / scale).round()
        differing += int(((x * (1 / scale)).round() != expected).sum())
        for kernel in native_kernels:
            q, s = prologue(x, no_operands()._replace(activation_bits=bits), kernel)
            assert torch.equal(s, scale), (kernel, peak)
            assert torch.equal(q.float(), expected + 0.0), (kernel, peak)
    assert differing > 100  # so a multiplication alone would not do


def test_the_multiplication_is_given_the_same_codes(native_kernels):
    """A whole layer with the identity for a weight: rows of many scales together, one of them nan."""
    rows = [near_ties(8, peak) for peak in peaks()[::12]]
    x, scale = torch.cat([row for row, _ in rows])[:, :256], torch.cat([scale for _, scale in rows])
    x[:, 255] = torch.tensor(peaks()[::12])
    expected = (x / scale).round() * scale
    x[5, 17], expected[5] = float("nan"), float("nan")
    codes = torch.eye(256, dtype=torch.int8)
    identity = no_operands(codes=codes, row_scale=torch.ones(256, 1))._replace(code_bits=8)
    for kernel in native_kernels:
        y = linear(x, identity, kernel)
        torch.testing.assert_close(y, expected, rtol=0, atol=0, equal_nan=True)


def test_scales_whose_inverse_is_subnormal_are_divided_by(native_kernels):
    """A thread that takes subnormal numbers for zero would multiply by zero."""
    x, scale = near_ties(2, _LARGEST)
    expected = (x / scale).round() + 0.0
    assert torch.set_flush_denormal(True)
    try:
        found = [
            prologue(x, no_operands()._replace(activation_bits=2), kernel)[0] for kernel in native_kernels
        ]
    finally:
        torch.set_flush_denormal(False)
    assert all(torch.equal(q.float(), expected) for q in found)
    assert expected.abs().sum() == 10
