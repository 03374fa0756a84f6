"""Layers on Triton's kernels: integer equals fake bit for bit, interpreted on a CPU and compiled on a GPU.

Oracles: the same layer multiplied by PyTorch's float GEMM over codes (`float32`), the float64 GEMM over
unpacked codes, and everything done by PyTorch's operations.
"""

from __future__ import annotations

import os

import pytest
import torch

from gr00t.quantization.duquant_layers import DuQuantLinear
from gr00t.quantization.kernels.torch_reference import accumulate_reference
from gr00t.quantization.kernels.triton import tiles
from gr00t.quantization.numerics.quantizers import QuantizedWeight
from gr00t.quantization.numerics.storage import store_weight
from gr00t.quantization.settings.options import TRITON, Rotation
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

NEEDED = "triton is not installed; run: ./scripts/setup_env.sh core gpu"
triton = pytest.importorskip("triton", reason=NEEDED)
tl = pytest.importorskip("triton.language", reason=NEEDED)
launch = pytest.importorskip("gr00t.quantization.kernels.triton.launch", reason=NEEDED)
numbers = pytest.importorskip("gr00t.quantization.kernels.triton.numbers", reason=NEEDED)

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
SLOW = pytest.mark.slow


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request) -> str:
    """Where to run: one of the two, since triton decides for the whole process."""
    if request.param == "cpu" and not INTERPRETED:
        pytest.skip("compiled for the GPU here; interpreted with: TRITON_INTERPRET=1 pytest -k triton")
    if request.param == "cuda" and INTERPRETED:
        pytest.skip("interpreted here; on the GPU with: TRITON_INTERPRET=0 pytest -m gpu")
    return request.param


def layer_of(k: int, n: int, device: str = "cpu", **settings) -> DuQuantLinear:
    spec = LinearSpec(k, n, **settings)
    return on(DuQuantLinear.from_linear(linear(k, n), spec).run_as(INTEGER).to(device), TRITON, TRITON)


@pytest.mark.filterwarnings("ignore:invalid value encountered in matmul:RuntimeWarning")
@pytest.mark.parametrize(("count", "rows"), [(12, (1, 2)), pytest.param(100, (5, 17), marks=SLOW)])
def test_integer_equals_fake_bit_for_bit(count, rows, device):
    """Random layers: half of them end in the GEMM's tile, the others in a launch of their own."""
    for name, layer, x in random_layers(count, seed=7, rows=rows):
        layer, x = layer.to(device), x.to(device)
        expected = on(layer, TRITON, "float32")(x)
        assert same(on(layer, TRITON, TRITON)(x), expected), name
        assert not torch.isfinite(expected[-1]).any() or torch.isfinite(x[-1]).all(), name


@pytest.mark.parametrize("tile", tiles._GEMM_TILES, ids=str)
@pytest.mark.parametrize("m", [3, pytest.param(130, marks=SLOW)])
def test_every_tile_gives_the_same_bits(tile, m, device, monkeypatch):
    """Sums, scales, restored rotation and bias in the GEMM's tile, against PyTorch's sums and what follows
    them.
    """
    layer, x = layer_of(320, 144, device, block_in=32), inputs(m, 320).to(device)
    assert tiles.restores_in_tile(len(layer.transforms.rotation_out), 16)
    turned = torch.randn(16, 16, generator=torch.Generator().manual_seed(5))
    layer.transforms.rotation_out[0] = torch.linalg.qr(turned).Q  # Hadamard's hides which way it is turned
    expected = on(layer, TRITON, "float32")(x)
    monkeypatch.setattr(launch, "gemm_tile", lambda *_: tile)
    assert torch.equal(on(layer, TRITON, TRITON)(x), expected)
    on(layer, "torch", "float32")
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def random_weight(k: int, n: int, bits: int, block: int, generator: torch.Generator) -> QuantizedWeight:
    """Of all codes and block scales that there are; scales of the rows are one."""
    fmt = IntFormat(bits)
    codes = torch.randint(fmt.qmin, fmt.qmax + 1, (n, k), generator=generator).to(torch.int8)
    scale = torch.randint(1, fmt.largest_block_scale + 1, (n, -(-k // block)), generator=generator)
    return QuantizedWeight(codes, scale.to(torch.uint8), torch.ones(n, 1))


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize(
    ("block", "ks"),
    [
        *[(16, (7, 257, 320)), (24, (33, 301)), (512, (1, 513))],
        *[pytest.param(block, (block, 15, 35, 257, 600), marks=SLOW) for block in (1, 2, 3, 32, 64, 128)],
    ],
)
def test_sums_equal_the_reference(bits, block, ks, device, monkeypatch):
    """Codes and block scales of every width, packed, with gaps at the ends of planes; every tile in turn."""
    generator = torch.Generator().manual_seed(100 * bits + block)
    for turn, k in enumerate(ks):
        weight = random_weight(k, 20, bits, block, generator)
        stored = store_weight(weight, IntFormat(bits))
        stored = {name: buffer.to(device) for name, buffer in stored.items()}
        if bits == 8:
            stored["block_scale"] = None
        operands = no_operands(**stored)._replace(block_in=block, code_bits=bits, scale_bits=8 - bits)
        q = torch.randint(-128, 128, (5, k), generator=generator).to(torch.int8)
        monkeypatch.setattr(launch, "gemm_tile", lambda *_, turn=turn: tiles._GEMM_TILES[-1 - turn])
        acc = torch.ops.gr00t_duquant.accumulate(q.to(device), *operands, TRITON)
        assert acc.dtype == torch.int32
        spread = weight.block_scale.repeat_interleave(block, dim=1)[:, :k].to(torch.int16)
        expected = accumulate_reference(q, (weight.codes * spread).to(torch.int8))
        assert torch.equal(acc.cpu(), expected), (bits, block, k)


@pytest.mark.parametrize(
    ("bits", "k"), [(2, 2048), (4, 2048), (7, 2048), pytest.param(8, 131_071, marks=SLOW)]
)
def test_sums_of_extreme_codes_are_exact(bits, k, device):
    """All weights -128, all activations -128; with 8 bits as many channels as there may be."""
    n = 3
    layer = layer_of(k, n, device, weight=IntFormat(bits), rotation=Rotation.NONE, permute=False)
    fmt = IntFormat(bits)
    least = torch.full((n, k), fmt.qmin, dtype=torch.int8)
    largest = torch.full((n, -(-k // 16)), fmt.largest_block_scale, dtype=torch.uint8)
    stored = store_weight(QuantizedWeight(least, largest, torch.ones(n, 1)), fmt)
    layer.codes.copy_(stored["codes"])
    if layer.block_scale is not None:
        layer.block_scale.copy_(stored["block_scale"])
    for code in (-128, 127):
        q = torch.full((2, k), code, dtype=torch.int8, device=device)
        assert layer.backend.accumulate(q, layer.operands()).unique().tolist() == [-128 * code * k]


@pytest.mark.parametrize("rotation", Rotation)
def test_transforms_equal_pytorchs_operations(rotation, device):
    """Against PyTorch's rotations, whose order of summation is its own affair: codes may differ by one at
    rounding ties. Measured, interpreted: none of 1,280 codes differs with any rotation.
    """
    layer = layer_of(320, 64, device, rotation=rotation)
    x = inputs(4, 320).bfloat16().to(device)
    on(layer, "torch", "float32")
    h, (q, s) = layer.rotate_input(x), layer.backend.prologue(x, layer.operands())
    y = layer(x)
    on(layer, TRITON, TRITON)
    torch.testing.assert_close(layer.rotate_input(x), h, rtol=1e-5, atol=1e-4)
    found, scale = layer.backend.prologue(x, layer.operands())
    torch.testing.assert_close(scale, s, rtol=1e-5, atol=0)
    wrong = (found.int() - q.int()).abs()
    assert wrong.max() <= 1
    assert (wrong > 0).double().mean() < 1e-3
    torch.testing.assert_close(layer(x), y, rtol=0.02, atol=0.02 * float(y.abs().max()))


@triton.jit
def _convert(x, y, n: tl.constexpr):
    at = tl.arange(0, n)
    tl.store(y + at, numbers.from_float(numbers.to_float(tl.load(x + at)), y.dtype.element_ty))


def converted(x: torch.Tensor, dtype: torch.dtype, device: str) -> torch.Tensor:
    y = torch.empty(len(x), dtype=dtype, device=device)
    _convert[(1,)](x.to(device), y, n=len(x))
    return y.cpu()


@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_as_pytorch_does(dtype, device):
    """Every number of 16 bits, in and out: subnormal, huge, inf, nan; ties, of which 1.5 makes many."""
    every = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype)
    assert same(converted(every, torch.float32, device), every.float())
    strange_nans = torch.tensor([0x7F800001, 0x7FFFFFFF, -1], dtype=torch.int32).view(torch.float32)
    for factor in (1.0, 1.0003, 1.5):
        x = every.float() * factor
        x[:3] = strange_nans
        assert same(converted(x, dtype, device), x.to(dtype))


def test_codes_are_rounded_half_to_even(device):
    """A scale of one: halves come from outside."""
    x = torch.arange(-254, 255).float()[None] / 2
    x[0, 0] = -127.0
    q, s = torch.ops.gr00t_duquant.prologue(x.to(device), *no_operands(), TRITON)
    assert s.item() == 1
    assert torch.equal(q.cpu(), x.round().to(torch.int8))


def test_a_token_does_not_depend_on_its_neighbours(device):
    layer, x = layer_of(64, 64, device), inputs(17, 64).to(device)
    whole = layer(x)
    for row in (0, 15, 16):
        assert torch.equal(whole[row], layer(x[row]))


def test_inputs_of_any_layout_and_dtype(device):
    layer, x = layer_of(96, 80, device), inputs(96, 5).T.to(device)
    assert torch.equal(layer(x), layer(x.contiguous()))
    assert torch.equal(layer(x.double()), layer(x).double())
    assert torch.equal(layer(x.contiguous().view(5, 1, 96))[:, 0], layer(x))
    assert layer(torch.zeros(0, 96, device=device)).shape == (0, 80)
    nothing = layer.backend.prologue(torch.zeros(0, 96, device=device), layer.operands())
    assert nothing[0].shape == (0, 96)


def test_a_permutation_that_points_outside_gives_nan(device):
    layer = layer_of(96, 80, device)
    for wrong in (96, -1):
        layer.transforms.perm[5] = wrong
        assert layer(inputs(3, 96).to(device)).isnan().all()


def test_integer_execution_keeps_nothing_but_the_packed_codes(device):
    layer = layer_of(256, 64, device)
    before = layer.resident_bytes()
    layer(inputs(5, 256).to(device))
    assert layer.resident_bytes() == before


@pytest.mark.skipif(not INTERPRETED, reason="what a GPU would change is tested there")
def test_the_operators_keep_the_rules_of_operators():
    """torch.library's own checks: schema, aliasing, meta tensors."""
    layer, x = layer_of(32, 48), inputs(3, 32)
    operands = layer.operands()
    q, s = layer.backend.prologue(x, operands)
    calls = {
        "linear": (x, *operands, TRITON),
        "prologue": (x, *operands, TRITON),
        "epilogue": (layer.backend.accumulate(q, operands), s, *operands, torch.bfloat16, TRITON),
        "rotate": (x, *operands, TRITON),
        "accumulate": (q, *operands, TRITON),
    }
    for name, given in calls.items():
        operator = getattr(torch.ops.gr00t_duquant, name).default
        torch.library.opcheck(operator, given, test_utils=("test_schema", "test_faketensor"))


def test_it_compiles_in_one_graph(device):
    """Traced whole, for any number of rows; the backend only runs the graph, so the bits are eager's."""
    layer = layer_of(64, 48, device)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=True)
    with torch.no_grad():
        for m in (2, 3):
            x = inputs(m, 64).to(device)
            assert torch.equal(compiled(x), layer(x))


@pytest.mark.gpu
@pytest.mark.parametrize("m", [49, 566])
@pytest.mark.parametrize(("k", "n"), [(2048, 1024), (1536, 6144), (6144, 1536)])
def test_real_shapes_on_a_gpu(k, n, m):
    """Integer equals fake, and is within rounding of a CPU; nothing waits for the GPU."""
    if INTERPRETED:
        pytest.skip("interpreted here; on the GPU with: TRITON_INTERPRET=0 pytest -m gpu")
    layer = DuQuantLinear.from_linear(linear(k, n, dtype=torch.bfloat16), LinearSpec(k, n)).run_as(INTEGER)
    x = inputs(m, k).bfloat16()
    expected = on(layer, "torch", "float32")(x)
    layer, x = layer.cuda(), x.cuda()
    assert layer.backend.accumulator == layer.backend.transformer == TRITON
    layer(x)  # compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        y = layer(x)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(on(layer, TRITON, "float32")(x), y)
    torch.testing.assert_close(y.cpu(), expected, rtol=0.02, atol=0.02 * float(expected.abs().max()))


@pytest.mark.gpu
def test_a_cuda_graph_replays_it():
    if INTERPRETED:
        pytest.skip("interpreted here; on the GPU with: TRITON_INTERPRET=0 pytest -m gpu")
    layer, x = layer_of(2048, 1024, "cuda"), inputs(49, 2048).cuda()
    layer(x)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = layer(x)
    x.copy_(inputs(49, 2048, seed=2))
    graph.replay()
    assert torch.equal(y, layer(x))
