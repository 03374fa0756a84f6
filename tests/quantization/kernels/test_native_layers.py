"""Layers on the compiled kernels: integer equals fake bit for bit, whatever the shape, bits and input.

Oracles: the same layer multiplied by PyTorch's float GEMM over codes (`float32`), and everything done by
PyTorch's operations.
"""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import nn

from gr00t.quantization.calibration.layer_calibration import LayerCalibration
from gr00t.quantization.calibration.observers import PooledPercentile
from gr00t.quantization.duquant_layers import DuQuantLinear
from gr00t.quantization.kernels import library
from gr00t.quantization.kernels.operators import epilogue, rotate
from gr00t.quantization.kernels.torch_reference import accumulate_reference
from gr00t.quantization.numerics.rotations import hadamard_matrix
from gr00t.quantization.settings.options import Execution, Rotation, WeightScale
from gr00t.quantization.settings.scheme import RuntimeOptions
from gr00t.quantization.settings.spec import IntFormat, LinearSpec
from tests.quantization.kernels.kernel_layers import (
    INTEGER,
    inputs,
    linear,
    no_operands,
    on,
    random_layers,
    same,
)


@pytest.fixture(autouse=True)
def _needs_kernels(native_kernels):
    if not native_kernels:
        pytest.skip(f"no compiled kernels ({library.why_not()}); install a C++ compiler")


def test_integer_equals_fake_bit_for_bit(native_kernels):
    """160 random layers, on every kernel."""
    for case, (name, layer, x) in enumerate(random_layers(160, seed=30)):
        kernel = native_kernels[case % len(native_kernels)]
        expected = on(layer, kernel, "float32")(x)
        assert same(on(layer, kernel, kernel)(x), expected), f"{kernel}: {name}"
        assert same(on(layer, native_kernels[-1], native_kernels[-1])(x), expected), name
        assert not torch.isfinite(expected[-1]).any() or torch.isfinite(x[-1]).all()


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("m", [1, 4, 9])
def test_sums_of_extreme_codes_are_exact(bits, m, native_kernels):
    """All weights -128, all activations -128, as many channels as there may be: the largest sum of all."""
    k, n = 131_071 if bits == 8 else 8960, 3 if bits == 8 else 64
    spec = LinearSpec(k, n, weight=IntFormat(bits), rotation=Rotation.NONE, permute=False)
    layer = DuQuantLinear.from_linear(linear(k, n), spec)
    layer.codes.fill_(0x88 if bits == 4 else -128)  # every code -8, or -128
    if bits == 4:
        layer.block_scale.fill_(0x77)  # every block scale 16
    for code in (-128, 127):
        q = torch.full((m, k), code, dtype=torch.int8)
        for kernel in native_kernels:
            acc = on(layer, kernel, kernel).backend.accumulate(q, layer.operands())
            assert acc.dtype == torch.int32
            assert acc.unique().tolist() == [-128 * code * k]


@pytest.mark.parametrize(("k", "n", "m"), [(2048, 192, 49), (1536, 64, 800), (640, 128, 2)])
def test_real_widths_equal_pytorchs_operations(k, n, m, native_kernels):
    """Against PyTorch's rotations, whose order of summation is its own affair.

    Measured (torch 2.13, AVX-512): equal to the last bit, no code of 1.3 million different. Where a machine's
    BLAS adds otherwise, codes may differ by one at rounding ties.
    """
    layer = DuQuantLinear.from_linear(linear(k, n, dtype=torch.bfloat16), LinearSpec(k, n))
    x = inputs(m, k).bfloat16()
    on(layer, "torch", "float32")
    q, s = layer.backend.prologue(x, layer.operands())
    for kernel in native_kernels:
        on(layer, kernel, kernel)
        found, scale = layer.backend.prologue(x, layer.operands())
        torch.testing.assert_close(scale, s, rtol=1e-5, atol=0)
        wrong = (found.int() - q.int()).abs()
        assert wrong.max() <= 1
        assert (wrong > 0).double().mean() < 1e-3


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("block", [16, 32, 64, 128, 256])
def test_every_width_of_codes_gives_the_same_sums(bits, block, native_kernels):
    """Whole panels and chunks, which have ways of their own, and what is left of both; few rows, and many.

    Oracle: float64's sums of the integer weight that the packed codes stand for.
    """
    generator = torch.Generator().manual_seed(bits * block)
    for k, granularity in ((384, "block"), (300, "block"), (256, "channel")):
        spec = LinearSpec(
            k, 150, weight=IntFormat(bits), block_in=block, weight_scale=WeightScale(granularity)
        )
        layer = DuQuantLinear.from_linear(linear(k, 150), spec)
        for m in (1, 4, 10):
            q = torch.randint(-128, 128, (m, k), generator=generator, dtype=torch.int8)
            expected = accumulate_reference(q, layer._integer_weight())
            for kernel in native_kernels:
                on(layer, kernel, kernel)
                assert torch.equal(layer.backend.accumulate(q, layer.operands()), expected), (kernel, k, m)


@pytest.mark.parametrize("block", [16, 32])
def test_every_instruction_set_gives_the_same_bits(block, native_kernels):
    for rotation, dtype in itertools.product(Rotation, (torch.float32, torch.bfloat16, torch.float16)):
        spec = LinearSpec(320, 160, rotation=rotation, block_in=block, block_out=block)
        layer, x = DuQuantLinear.from_linear(linear(320, 160, dtype=dtype), spec), inputs(21, 320).to(dtype)
        first, *others = [on(layer, kernel, kernel)(x) for kernel in native_kernels]
        assert all(torch.equal(first, other) for other in others)


def test_hadamard_matrices_have_a_way_of_their_own_with_the_same_bits(native_kernels):
    """Against a matrix that differs in one sign of a zero-weighted input, and so takes the general way."""
    x = inputs(33, 96)
    x[1], x[2], x[3, 7] = 1e-37, 1e38, float("nan")
    x[:, 5::16] = 0.0
    hadamard = hadamard_matrix(16).float()[None]
    other = hadamard.clone()
    other[0, 5] *= -1
    perm = torch.arange(96, dtype=torch.int32).view(6, 16).flip(0).flatten()
    for kernel in native_kernels:
        for chosen in (None, perm):
            h = rotate(x, no_operands(perm=chosen, rotation_in=hadamard), kernel)
            expected = rotate(x, no_operands(perm=chosen, rotation_in=other), kernel)
            assert same(h, expected)
            assert h.isfinite().sum() > 0.9 * h.numel()


def test_half_precision_is_rounded_as_pytorch_does(native_kernels):
    """Every float16 in and out: subnormal, huge, inf; the layer is an identity with a scale of one."""
    every = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(torch.float16)
    numbers = every[torch.isfinite(every)].float()[None]
    between = numbers[0] * torch.tensor(1.0003)  # falls between representable numbers
    for kernel in native_kernels:
        h = rotate(numbers.half(), no_operands(), kernel)
        assert torch.equal(h, numbers)
        for dtype in (torch.float16, torch.bfloat16):
            s = torch.cat((between, torch.tensor([1e30, -1e30, 1e-30, float("nan"), float("inf")])))[:, None]
            ones = torch.ones(len(s), 1, dtype=torch.int32)
            y = epilogue(ones, s, no_operands(row_scale=torch.ones(1, 1)), dtype, kernel)
            assert same(y, s.to(dtype))


def test_rows_do_not_depend_on_their_neighbours(native_kernels):
    """A batch gives what each of its rows gives alone, across tiles and runs of rows."""
    layer = DuQuantLinear.from_linear(linear(128, 64), LinearSpec(128, 64)).run_as(INTEGER)
    x = inputs(1600, 128)
    for kernel in native_kernels:
        whole = on(layer, kernel, kernel)(x)
        for row in (0, 5, 766, 767, 768, 1599):
            assert torch.equal(whole[row], layer(x[row]))


def test_calibration_sees_the_same_and_ends_the_same():
    """A kernel and PyTorch's operations while they calibrate, after it, and the buffers that it leaves."""
    x = inputs(40, 96).bfloat16()
    layers = []
    for runtime in (RuntimeOptions(backend="torch"), INTEGER):
        spec = LinearSpec(96, 80, calibration_steps=1)
        layer = DuQuantLinear.from_linear(linear(96, 80, dtype=torch.bfloat16), spec)
        layer.run_as(runtime)
        calibration = LayerCalibration(layer, PooledPercentile(99.0, requests=1))
        layers.append((layer, calibration))
    (plain, plain_calibration), (integer, integer_calibration) = layers
    assert plain.backend.sums is not integer.backend.sums
    assert torch.equal(integer(x), plain(x))
    assert integer_calibration.finish()
    assert plain_calibration.finish()
    assert torch.equal(integer(x), plain(x))
    assert all(torch.equal(a, b) for a, b in zip(integer.buffers(), plain.buffers(), strict=True))


@pytest.mark.parametrize(
    ("execution", "bits"), [*((one, 4) for one in Execution), (Execution.INTEGER, 3), (Execution.INTEGER, 6)]
)
def test_a_compiled_kernel_keeps_nothing_but_the_packed_codes(execution, bits, native_kernels):
    spec = LinearSpec(2048, 64, weight=IntFormat(bits))
    layer = DuQuantLinear.from_linear(linear(2048, 64, bias=False), spec)
    layer.run_as(RuntimeOptions(execution))
    assert layer.operands().codes is layer.codes
    before, state = layer.resident_bytes(), copy.deepcopy(layer.packed_state())
    layer(inputs(5, 2048))
    assert layer.resident_bytes() == before
    assert all(torch.equal(state[name], value) for name, value in layer.packed_state().items())
    per_weight = {3: 3.3125, 4: 4.25, 6: 6.125}[bits]
    assert (layer.codes.nbytes + layer.block_scale.nbytes) * 8 == per_weight * 2048 * 64
    assert layer.backend.accumulator == layer.backend.transformer == native_kernels[0]


@pytest.mark.parametrize("m", [1, 9])
def test_inputs_of_any_layout_and_dtype(m):
    layer = DuQuantLinear.from_linear(linear(96, 80), LinearSpec(96, 80)).run_as(INTEGER)
    x = inputs(96, m).T
    assert torch.equal(layer(x), layer(x.contiguous()))
    assert torch.equal(layer(x.double()), layer(x).double())
    assert torch.equal(layer(x.contiguous().view(m, 1, 96))[:, 0], layer(x))
    assert layer(torch.zeros(0, 96)).shape == (0, 80)
    with pytest.raises(ValueError, match=r"expected inputs of 96 channels, got \(3, 95\)"):
        layer(torch.zeros(3, 95))


def test_a_permutation_that_points_outside_is_refused():
    layer = DuQuantLinear.from_linear(linear(96, 80), LinearSpec(96, 80)).run_as(INTEGER)
    layer.transforms.perm[5] = 96
    with pytest.raises(library.NativeKernelError, match="names a channel that is not there"):
        layer(inputs(3, 96))
    layer.transforms.perm[5] = -1
    with pytest.raises(library.NativeKernelError, match="names a channel that is not there"):
        layer.backend.prologue(inputs(3, 96), layer.operands())


def test_the_operators_keep_the_rules_of_operators():
    """torch.library's own checks: schema, aliasing, meta tensors, tracing."""
    layer = DuQuantLinear.from_linear(linear(32, 48), LinearSpec(32, 48)).run_as(INTEGER)
    x, operands, kernel = inputs(3, 32), layer.operands(), layer.backend.transformer
    q, s = layer.backend.prologue(x, operands)
    calls = {
        "linear": (x, *operands, kernel),
        "prologue": (x, *operands, kernel),
        "epilogue": (layer.backend.accumulate(q, operands), s, *operands, torch.float32, kernel),
        "rotate": (x, *operands, kernel),
        "accumulate": (q, *operands, kernel),
    }
    for name, arguments in calls.items():
        operator = getattr(torch.ops.gr00t_duquant, name).default
        torch.library.opcheck(operator, arguments, test_utils=("test_schema", "test_faketensor"))


@pytest.mark.parametrize("runtime", [*map(RuntimeOptions, Execution), RuntimeOptions(backend="torch")])
def test_it_compiles_in_one_graph(runtime):
    """Traced whole, for any number of rows; the backend only runs the graph, so the bits are eager's."""
    layer = DuQuantLinear.from_linear(linear(64, 48), LinearSpec(64, 48)).run_as(runtime)
    layer(inputs(2, 64))
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=True)
    with torch.no_grad():
        for m in (3, 5, 8):
            assert torch.equal(compiled(inputs(m, 64)), layer(inputs(m, 64)))


@pytest.mark.slow
def test_it_compiles_with_the_default_backend():
    layer = DuQuantLinear.from_linear(linear(64, 48), LinearSpec(64, 48)).run_as(INTEGER)
    model = nn.Sequential(nn.GELU(), layer, nn.GELU())
    compiled = torch.compile(model, fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(inputs(3, 64)), model(inputs(3, 64)), rtol=0.05, atol=0.5)


def test_on_meta_it_gives_shapes_and_no_numbers():
    layer = DuQuantLinear.from_linear(linear(64, 48), LinearSpec(64, 48)).run_as(INTEGER)
    shapes = copy.deepcopy(layer).to("meta")
    y = shapes(torch.empty(2, 7, 64, dtype=torch.bfloat16, device="meta"))
    assert (y.shape, y.dtype, y.device.type) == ((2, 7, 48), torch.bfloat16, "meta")


def test_a_layer_finds_its_kernels_where_it_is_read(monkeypatch, native_kernels):
    """A copy that arrives in a process without the compiled kernels uses PyTorch's."""
    layer = DuQuantLinear.from_linear(linear(64, 48), LinearSpec(64, 48))
    assert layer.backend.transformer == native_kernels[0]
    expected = layer(inputs(3, 64))
    monkeypatch.setattr(library, "_library", None)
    alone = copy.deepcopy(layer)
    assert alone.backend.transformer == "torch"
    torch.testing.assert_close(alone(inputs(3, 64)), expected)
    with pytest.raises(library.NativeKernelError, match="is not there: loaded are"):
        layer(inputs(3, 64))
