"""Whatever a token holds, fake and integer execution give the same bits, and its neighbours do not notice.

Oracles: the same layer multiplied by PyTorch's float GEMM over codes; the portable kernel, which has no
vectors of its own; the same rows beside another neighbour.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gr00t.quantization.calibration.layer_calibration import LayerCalibration
from gr00t.quantization.calibration.observers import PooledPercentile
from gr00t.quantization.duquant_layers import DuQuantLinear
from gr00t.quantization.kernels import library
from gr00t.quantization.kernels.int8_trial import try_int8
from gr00t.quantization.numerics import ordered_rotation
from gr00t.quantization.numerics.ordered_rotation import goes_to_blas, rotate_in_order
from gr00t.quantization.settings.options import Rotation, RowRotation, WeightScale
from gr00t.quantization.settings.spec import IntFormat, LinearSpec
from tests.quantization.kernels.kernel_layers import INTEGER, inputs, linear, on, same

# From the smallest subnormal to where a rotation of equal channels, and the product of both scales, overflow.
MAGNITUDES = (0.0, 1e-45, 1e-40, 1e-38, 1e-30, 1.0, 6e4, 1e30, 1e35, 1e36, 1e37, 1e38, 3.4e38)
NOT_FINITE = (float("inf"), float("-inf"), float("nan"))
BLOCKS = st.sampled_from((1, 2, 3, 5, 7, 8, 16, 24, 32, 64))


@st.composite
def layers(draw: st.DrawFn) -> tuple[DuQuantLinear, torch.Tensor]:
    """A layer of any kind, and rows of one magnitude each: (M, K), gaussian, or of equal channels."""
    k, n, seed = draw(st.integers(1, 140)), draw(st.integers(1, 140)), draw(st.integers(0, 99))
    spec = LinearSpec(
        k,
        n,
        weight=IntFormat(draw(st.sampled_from((2, 4, 4, 5, 8)))),
        activation=IntFormat(draw(st.sampled_from((2, 4, 8, 8)))),
        block_in=draw(BLOCKS),
        block_out=draw(BLOCKS),
        weight_scale=draw(st.sampled_from(WeightScale)),
        permute=draw(st.booleans()),
        rotation=draw(st.sampled_from((Rotation.HADAMARD, Rotation.SVD, Rotation.NONE))),
        row_rotation=draw(st.sampled_from(RowRotation)),
        calibration_steps=draw(st.sampled_from((0, 0, 1))),
    )
    dtype = draw(st.sampled_from((torch.float32, torch.float32, torch.bfloat16, torch.float16)))
    layer = DuQuantLinear.from_linear(linear(k, n, draw(st.booleans()), dtype, seed), spec).run_as(INTEGER)
    if spec.static and draw(st.booleans()):
        calibration = LayerCalibration(layer, PooledPercentile(99.0, requests=1))
        layer(inputs(4, k, seed=seed).to(dtype))
        assert calibration.finish()
    magnitudes = draw(st.lists(st.sampled_from(MAGNITUDES), min_size=1, max_size=9))
    x = inputs(len(magnitudes), k, seed=seed).clamp(-1, 1)
    if draw(st.booleans()):
        x = x.sign()
    return layer, (x * torch.tensor(magnitudes)[:, None]).to(dtype)


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _needed(native_kernels: tuple[str, ...]) -> None:
    if not native_kernels:
        pytest.skip(f"no compiled kernels ({library.why_not()}); install a C++ compiler")


@settings(max_examples=150, deadline=None, derandomize=True)
@given(case=layers())
def test_integer_equals_fake_by_every_kernel(case, native_kernels):
    """By PyTorch's operations, too: three accumulators behind them."""
    _needed(native_kernels)
    layer, x = case
    expected = on(layer, native_kernels[-1], "float32")(x)
    for kernel in native_kernels:
        assert same(on(layer, kernel, kernel)(x), expected), kernel
        assert same(on(layer, kernel, "reference")(x), expected), kernel
    by_torch = on(layer, "torch", "float32")(x)
    # PyTorch's int8 GEMM saturates at 16 bits on some processors, and is not chosen there.
    for accumulator in ("reference", *(["int8"] if try_int8()[0] else []), *native_kernels):
        assert same(on(layer, "torch", accumulator)(x), by_torch), accumulator


@pytest.mark.parametrize("out_features", [33, 80, 100])
@pytest.mark.parametrize("magnitude", [1e36, 1e37, 3e38])
def test_sums_that_overflow_do_so_alike(magnitude, out_features, native_kernels):
    """Outputs in a panel that is not full: what lay behind the last one made nan of others."""
    _needed(native_kernels)
    layer = DuQuantLinear.from_linear(linear(32, out_features), LinearSpec(32, out_features))
    x = inputs(5, 32).sign() * magnitude
    expected = on(layer, native_kernels[0], "float32")(x)
    assert not expected.isfinite().all()
    for kernel in native_kernels:
        assert same(on(layer, kernel, kernel)(x), expected), kernel


@settings(max_examples=80, deadline=None, derandomize=True)
@given(case=layers(), bad=st.sampled_from((*NOT_FINITE, 3.4e38)), at=st.integers(0, 10**6))
def test_a_bad_token_stays_alone(case, bad, at, native_kernels):
    """It comes out as nan throughout where it is not finite; no other row has another bit."""
    layer, x = case
    row, channel = at % len(x), at % x.shape[1]
    worse = x.clone()
    worse[row, channel] = bad
    others = [m for m in range(len(x)) if m != row]
    for kernel in ("torch", *native_kernels):
        accumulator = "float32" if kernel == "torch" else kernel
        good, found = on(layer, kernel, accumulator)(x), layer(worse)
        assert same(found[others], good[others]), kernel
        assert torch.isfinite(worse[row]).all() or found[row].isnan().all(), kernel


@settings(max_examples=120, deadline=None, derandomize=True)
@given(case=layers())
def test_pytorchs_transforms_are_the_compiled_ones_bit_for_bit(case, native_kernels):
    """Where every sum is formed in order; where a BLAS forms it, its order is its own affair."""
    _needed(native_kernels)
    layer, x = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ordered_rotation, "goes_to_blas", lambda rotation: False)
        expected = on(layer, "torch", "float32")(x)
    for kernel in native_kernels:
        assert same(on(layer, kernel, kernel)(x), expected), kernel


@pytest.mark.parametrize("rotation", [Rotation.HADAMARD, Rotation.SVD])
@pytest.mark.parametrize(("k", "n", "block", "block_out"), [(32, 33, 7, 5), (96, 80, 5, 7), (130, 64, 8, 32)])
def test_odd_blocks_give_the_same_bits_with_and_without_a_compiler(
    k, n, block, block_out, rotation, native_kernels
):
    """BLOCK=7 with BLOCK_OUT=5 used to differ by 1e-6; alone or in company, a row has the same bits, too."""
    _needed(native_kernels)
    spec = LinearSpec(k, n, block_in=block, block_out=block_out, rotation=rotation)
    layer, x = DuQuantLinear.from_linear(linear(k, n), spec), inputs(33, k)
    assert not goes_to_blas(layer.transforms.rotation_in)
    assert not goes_to_blas(layer.transforms.rotation_out)
    expected = on(layer, native_kernels[0], "float32")(x)
    by_torch = on(layer, "torch", "float32")(x)
    assert torch.equal(by_torch, expected)
    assert all(torch.equal(layer(x[m : m + 1])[0], by_torch[m]) for m in (0, 1, 32))


def test_a_sum_is_rounded_once():
    """2^24 + 2 and 1 - 2^-46: in float64 that is the middle between two float32, and goes the wrong way."""
    x, rotation = (
        torch.tensor([[2.0**24 + 2, 1 + 2.0**-23]]),
        torch.tensor([[[1.0, 0.0], [1 - 2.0**-23, 1.0]]]),
    )
    assert rotate_in_order(x, rotation)[0, 0] == 2**24 + 2
    assert (x.double() @ rotation[0].double()).float()[0, 0] == 2**24 + 4
