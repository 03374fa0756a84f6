"""Error-feedback rounding by the compiled kernels: PyTorch's codes, scales and errors, bit for bit.

Oracle: `feedback.round_panel`, on panels with clipped blocks, silent rows, ties and shorter last blocks; and
whole weights, where the matrix products between panels are the same in both.
"""

from __future__ import annotations

import pytest
import torch

from gr00t.quantization.kernels import feedback, library
from gr00t.quantization.numerics import feedback as reference
from gr00t.quantization.numerics.hessian import Factor, factorize
from gr00t.quantization.settings.options import WeightScale
from gr00t.quantization.settings.spec import IntFormat


@pytest.fixture(autouse=True)
def _needs_kernels(native_kernels):
    if not native_kernels:
        pytest.skip(f"no compiled kernels ({library.why_not()}); install a C++ compiler")


def inputs(rows: int, channels: int) -> torch.Tensor:
    """Correlated, and one channel a hundred times as loud."""
    generator = torch.Generator().manual_seed(channels)
    mixed = torch.randn(rows, channels, generator=generator) @ torch.randn(
        channels, channels, generator=generator
    )
    mixed[:, channels // 2] *= 100
    return mixed


def panel(channels: int, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights in units of a step, and targets some of which are far beyond any code."""
    generator = torch.Generator().manual_seed(rows)
    own = 40 * torch.randn(channels, rows, generator=generator)
    own[:, 0] = 0
    own[:, 1] = own[:, 1].round()
    moved = torch.randn(channels, rows, generator=generator)
    moved[:, :2] = 0
    moved[:, 3] *= 1e4
    return own, own + moved


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("block", [1, 5, 16, 64, 200])
def test_a_panel_is_pytorchs_to_the_last_bit(bits, block, native_kernels):
    fmt, channels = IntFormat(bits), 83
    factor = factorize(inputs(90, channels))
    for largest in {1, fmt.largest_block_scale}:
        own, target = panel(channels, 48)
        errors = own.clone()
        expected = reference.round_panel(errors, target.clone(), factor, fmt, block, largest)
        for kernel in native_kernels:
            found = own.clone()
            codes, scales = feedback.panel_by(kernel)(found, target.clone(), factor, fmt, block, largest)
            assert torch.equal(codes, expected[0]), kernel
            assert torch.equal(scales, expected[1]), kernel
            assert torch.equal(found, errors), kernel


@pytest.mark.parametrize("granularity", WeightScale)
def test_a_weight_is_the_same_whoever_rounds_its_panels(granularity, monkeypatch, native_kernels):
    """300 channels are three panels, the last one short; 37 rows no whole number of vectors."""
    weight = torch.randn(37, 300, generator=torch.Generator().manual_seed(0))
    factor = factorize(inputs(64, 300))
    asked = []

    def call(part: str, kernel: str, *records: object) -> None:
        asked.append(part)
        library.call(part, kernel, *records)

    monkeypatch.setattr(feedback, "call", call)
    native = feedback.round_with_feedback(weight, factor, IntFormat(4), 16, granularity)
    assert asked == ["feedback"] * 3
    monkeypatch.setattr(library, "_library", None)
    alone = feedback.round_with_feedback(weight, factor, IntFormat(4), 16, granularity)
    assert len(asked) == 3
    for name, value, wanted in zip(native._fields, native, alone, strict=True):
        assert torch.equal(value, wanted), name


def test_it_takes_any_number_of_threads(native_kernels):
    own, target = panel(128, 4096)
    factor = factorize(inputs(64, 128))
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            errors = own.clone()
            found.append(
                (*feedback.panel_by(native_kernels[0])(errors, target, factor, IntFormat(4), 16, 16), errors)
            )
    finally:
        torch.set_num_threads(threads)
    assert all(map(torch.equal, *found))


def test_a_kernel_that_is_not_there_is_refused():
    own, target = panel(4, 16)
    with pytest.raises(library.NativeKernelError, match="'none' is not there: loaded are"):
        feedback.panel_by("none")(own, target, Factor(torch.eye(4), torch.ones(4), 0.1), IntFormat(4), 4, 16)
