"""Scales that the compiled kernels find: those of PyTorch's search, bit for bit.

Oracle: `quantizers.quantize_weight`. It adds errors in an order of its own (`_sum_in_halves`), which is what
makes equality possible where two scales are as good as equal: the weights "on a grid" are full of such.
"""

from __future__ import annotations

import pytest
import torch

from gr00t.quantization.duquant_layers import DuQuantLinear
from gr00t.quantization.kernels import library, search
from gr00t.quantization.kernels.choice import choose_search
from gr00t.quantization.numerics import quantizers
from gr00t.quantization.settings.options import WeightScale
from gr00t.quantization.settings.spec import IntFormat, LinearSpec
from tests.quantization.kernels.kernel_layers import linear


@pytest.fixture(autouse=True)
def _needs_kernels(native_kernels):
    if not native_kernels:
        pytest.skip(f"no compiled kernels ({library.why_not()}); install a C++ compiler")


def weights(n: int, k: int, seed: int = 0) -> torch.Tensor:
    """Gaussian with outlier columns; a row of zeros, zero blocks, one number alone, huge and tiny rows."""
    w = torch.randn(n, k, generator=torch.Generator().manual_seed(seed))
    w[:, ::23] *= 20
    w[0] = 0
    w[1, : k // 2] = 0
    w[2] = 0
    w[2, k // 3] = -3
    w[3] *= 1e36
    w[4] *= 1e-30
    w[5] *= 1e-38  # subnormal in part
    w[6] = 1
    return w


def on_a_grid(n: int, k: int) -> torch.Tensor:
    """Small integers: several scales have the same error, or would have it but for the last bit."""
    return torch.randint(-12, 13, (n, k), generator=torch.Generator().manual_seed(0)).float()


def assert_same(
    weight: torch.Tensor, bits: int, block: int, granularity: WeightScale, kernels: tuple[str, ...]
) -> None:
    expected = quantizers.quantize_weight(weight, IntFormat(bits), block, granularity)
    for kernel in kernels:
        found = search.search(weight, IntFormat(bits), block, granularity, kernel)
        for name, value, wanted in zip(found._fields, found, expected, strict=True):
            assert (value.dtype, value.shape) == (wanted.dtype, wanted.shape), f"{kernel}: {name}"
            assert torch.equal(value, wanted), f"{kernel}: {int((value != wanted).sum())} of {name}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("granularity", WeightScale)
@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
def test_codes_and_scales_are_pytorchs(bits, granularity, dtype, native_kernels):
    """Whole blocks, shorter last ones, one row more than a vector holds; blocks of any size."""
    for case, block in enumerate((8, 16, 32, 64, 5, 1)):
        for n, k in ((33, 256), (17, 150), (8, 3)):
            weight = weights(n, k, seed=case).to(dtype)
            weight = weight.nan_to_num(posinf=6e4, neginf=-6e4)  # what float16 does not hold
            assert_same(weight, bits, block, granularity, native_kernels)


@pytest.mark.parametrize("granularity", WeightScale)
@pytest.mark.parametrize("block", [8, 16, 64])
def test_scales_that_are_as_good_as_equal(block, granularity, native_kernels):
    for bits in (3, 4):
        assert_same(on_a_grid(256, 512), bits, block, granularity, native_kernels)


def test_it_takes_any_layout_dtype_and_number_of_threads(native_kernels):
    weight = weights(300, 512).double() / 3  # a layer's is float64
    assert_same(weight.T[:, 8:], 4, 16, WeightScale.BLOCK, native_kernels)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            assert_same(weight, 4, 16, WeightScale.BLOCK, native_kernels)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("granularity", WeightScale)
def test_a_layer_holds_the_same_whoever_searched(granularity, monkeypatch, native_kernels):
    """The kernel is asked; and without it, PyTorch finds the layer that is the same to the last bit."""
    source = linear(200, 96, dtype=torch.bfloat16)
    asked = []

    def call(part: str, kernel: str, arguments: library.Arguments) -> None:
        asked.append((part, kernel))
        library.call(part, kernel, arguments)

    monkeypatch.setattr(search, "call", call)
    spec = LinearSpec(200, 96, weight_scale=granularity)
    native = DuQuantLinear.from_linear(source, spec)
    assert asked == [("search", native_kernels[0])]
    monkeypatch.setattr(library, "_library", None)
    alone = DuQuantLinear.from_linear(source, spec)
    assert len(asked) == 1
    assert all(
        torch.equal(native.packed_state()[name], value) for name, value in alone.packed_state().items()
    )


def test_the_choice_is_a_pure_predicate():
    assert choose_search(torch.device("cpu"), ("fast", "slow")) == "fast"
    assert choose_search(torch.device("cpu"), ()) == "torch"
    assert choose_search(torch.device("cuda"), ("triton",)) == "torch"
    assert choose_search(torch.device("meta"), ("fast",)) == "torch"


def test_on_meta_it_gives_shapes_and_no_numbers():
    shapes = search.quantize_weight(weights(9, 40).to("meta"), IntFormat(4), 16, WeightScale.BLOCK)
    assert [tuple(shape.shape) for shape in shapes] == [(9, 40), (9, 3), (9, 1)]
    assert {shape.device.type for shape in shapes} == {"meta"}


def test_a_kernel_that_is_not_there_is_refused():
    with pytest.raises(library.NativeKernelError, match="'none' is not there: loaded are"):
        search.search(weights(8, 32), IntFormat(4), 16, WeightScale.BLOCK, "none")
    assert search.search(torch.zeros(0, 32), IntFormat(4), 16, WeightScale.BLOCK, "none").codes.numel() == 0
