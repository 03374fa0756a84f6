"""Outputs of the compiled kernels where 16 rows are restored at a time, by sums that Hadamard's signs share.

Oracle: PyTorch's restoring, whose sums have the same order, and the other instruction sets.
"""

from __future__ import annotations

import pytest
import torch

from gr00t.quantization.kernels import library
from gr00t.quantization.kernels.operators import epilogue
from gr00t.quantization.kernels.torch_reference import restore_output
from gr00t.quantization.numerics.rotations import hadamard_matrix
from tests.quantization.kernels.kernel_layers import no_operands, same

_ROWS, _OUTPUTS = 37, 192


@pytest.fixture(autouse=True)
def _needs_kernels(native_kernels):
    if not native_kernels:
        pytest.skip(f"no compiled kernels ({library.why_not()}); install a C++ compiler")


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("size", [1e-38, 1e-30, 1e-19, 1.0, 1e25])
def test_rows_restored_together_have_the_bits_of_rows_restored_alone(size, has_bias, native_kernels):
    """Sums from none to the largest; scales from where a quarter of a sum is subnormal to where it is inf."""
    generator = torch.Generator().manual_seed(11)
    acc = torch.randint(-(2**31), 2**31, (_ROWS, _OUTPUTS), generator=generator).int()
    acc >>= torch.randint(0, 32, acc.shape, generator=generator).int()
    acc[3], acc[20, 100:] = 0, 1
    s = torch.rand(_ROWS, 1, generator=generator) + 0.5
    row_scale = (torch.rand(_OUTPUTS, 1, generator=generator) + 0.5) * size
    s[17], row_scale[130] = float("nan"), size / 64
    bias = torch.randn(_OUTPUTS, generator=generator).bfloat16() * size if has_bias else None
    layer = no_operands(row_scale=row_scale, rotation_out=hadamard_matrix(16).float()[None], bias=bias)
    expected = restore_output(acc.float() * s * row_scale.T, layer)
    expected = (expected if bias is None else expected + bias).bfloat16()
    for kernel in native_kernels:
        whole = epilogue(acc, s, layer, torch.bfloat16, kernel)
        alone = torch.cat(
            [epilogue(acc[i : i + 1], s[i : i + 1], layer, torch.bfloat16, kernel) for i in range(_ROWS)]
        )
        assert same(whole, alone), kernel
        assert same(whole, expected), kernel


def test_sums_whose_quarter_is_no_normal_number_have_the_bits_of_others(native_kernels):
    """Multiples of the smallest number: one in some 60,000 outputs then lies where its last bit counts."""
    generator = torch.Generator().manual_seed(12)
    acc = torch.randint(-(2**16), 2**16, (512, 1024), generator=generator).int()
    layer = no_operands(
        row_scale=torch.full((1024, 1), 2.0**-149), rotation_out=hadamard_matrix(16).float()[None]
    )
    s = torch.ones(512, 1)
    expected = restore_output(acc.float() * s * layer.row_scale.T, layer).bfloat16()
    assert expected.count_nonzero() > 100_000
    for kernel in native_kernels:
        assert torch.equal(epilogue(acc, s, layer, torch.bfloat16, kernel), expected), kernel
