"""AMX's tiles: the same bits as every other kernel, on every machine that can run or emulate them.

Where the processor has no AMX, `native/emulated_tiles.cpp` does its instructions by a signal handler, so that
the very machine code of the kernel runs; the emulator is tested by the program that tests the hardware
(`native/tiles.cpp`). How a process gets the permission to use tiles: test_tile_permission.py.

Oracles: sums one by one, the other kernels, PyTorch's operations.
"""

from __future__ import annotations

import ctypes
import dataclasses
import faulthandler
import hashlib
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from gr00t.files.private_folder import private_folder
from gr00t.quantization.duquant_layers import DuQuantLinear
from gr00t.quantization.kernels import build, library
from gr00t.quantization.kernels.torch_reference import accumulate_reference
from gr00t.quantization.settings.options import Rotation
from gr00t.quantization.settings.spec import IntFormat, LinearSpec
from tests.quantization.kernels.kernel_layers import INTEGER, inputs, linear, on, random_layers, same

AMX = "amx_int8"
NATIVE = Path(__file__).parent / "native"
NO_TILES = 77


def compiled(name: str, *arguments: str) -> Path:
    """Compile a program or a library of `native`, or find it as it was: half a second, once."""
    compiler = shutil.which(os.environ.get("CXX") or "g++")
    if compiler is None:
        pytest.skip("no g++; on Debian: apt-get install g++")
    sources = sorted([*NATIVE.glob("*.cpp"), *build.SOURCES.rglob("*.hpp")])
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources))
    path = private_folder(os.environ, "kernel-tests", digest.hexdigest()[:24]) / name
    if not path.exists():
        command = [compiler, "-std=c++17", "-O2", f"-I{build.SOURCES}", *arguments]
        made = path.with_name(f"{name}.{os.getpid()}")
        subprocess.run([*command, "-o", str(made)], check=True, capture_output=True, cwd=NATIVE)
        made.replace(path)
    return path


@pytest.fixture(scope="module")
def program(native_kernels) -> Path:
    """`native/tiles.cpp`."""
    if build.KERNELS.get(os.uname().machine, {}).get(AMX) is None:
        pytest.skip("needs an x86 processor")
    return compiled("tiles", "-Wall", "-Wextra", "-Werror", "tiles.cpp", "emulated_tiles.cpp")


def run(program: Path, what: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([program, what], capture_output=True, text=True, check=False, timeout=60)
    if done.returncode == NO_TILES:
        pytest.skip("needs AMX, or AVX512-VNNI, VBMI and GFNI to emulate it beside")
    return done


def test_instructions_give_the_sums_of_their_products_one_by_one(program):
    done = run(program, "products")
    assert (done.returncode, done.stdout) == (0, "5205\n"), done.stdout


def test_the_kernels_own_test_notices_a_processor_that_multiplies_wrongly(program):
    if AMX in library.loaded():
        pytest.skip("needs a processor without AMX")
    assert run(program, "wrong").stdout == "noticed\n"


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("unconfigured", "no configuration is loaded"),
        ("absent", "the tile has no rows"),
        ("rows", "tiles of a product whose sizes do not fit"),
        ("inner", "tiles of a product whose sizes do not fit"),
        ("columns", "tiles of a product whose sizes do not fit"),
        ("size", "a tile of that size is none"),
        ("half", "a tile of that size is none"),
        ("palette", "no such palette"),
        ("other", None),
    ],
)
def test_what_the_hardware_refuses_the_emulator_refuses(what, why, program):
    done = run(program, what)
    assert done.returncode in (-signal.SIGILL, -signal.SIGSEGV)
    if AMX not in library.loaded():
        assert done.stderr == (f"emulated tiles: {why}\n" if why else "")


def test_why_tiles_cannot_be_used_is_a_pure_predicate(program):
    """No AMX, all well; then one fact after the other that is against it."""
    assert run(program, "reasons").stdout.splitlines() == [
        "-",
        "-",
        "AMX without AVX512-VNNI, VBMI and GFNI",
        "AMX is not enabled by the operating system or hypervisor (XCR0)",
        "a sandbox forbids to ask for AMX (arch_prctl: EPERM)",
        "an alternate signal stack is too small for AMX's registers (arch_prctl: ENOSPC)",
        "this Linux has no AMX to give; 5.16 and later do (arch_prctl)",
        "AMX computes wrong products here",
    ]


@dataclasses.dataclass
class Tiles:
    """The kernel, and how many of its instructions were emulated so far; always 0 on the hardware."""

    count: Callable[[], int] | None

    def executed(self) -> int:
        return self.count() if self.count else 0


@pytest.fixture(scope="module")
def tiles(native_kernels) -> Iterator[Tiles]:
    """The kernel among the loaded ones: as it is, or on emulated instructions."""
    if AMX in native_kernels:
        yield Tiles(None)
        return
    loaded = library._library
    # The fastest is the first; what this compiler did not know is not there.
    if loaded is None or 0 in loaded.kernels.values() or "avx512_vnni" not in loaded.kernels:
        pytest.skip("needs AMX, or AVX512-VNNI and a compiler that knows AMX")
    emulator = ctypes.CDLL(str(compiled("emulated_tiles.so", "-shared", "-fPIC", "emulated_tiles.cpp")))
    emulator.emulated_instructions.restype = ctypes.c_uint64
    if not emulator.begin_emulated_tiles(0):
        pytest.skip("needs AMX, or VBMI and GFNI to emulate it beside")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loaded, "kernels", {AMX: 0, **loaded.kernels})
        yield Tiles(emulator.emulated_instructions)
    emulator.end_emulated_tiles()


def test_500_random_layers_equal_every_other_kernel_and_float_sums(tiles):
    """Any bits, blocks, rotations, scales, dtypes, odd sizes, rows with inf and nan.

    What comes out against sums by PyTorch's float GEMM, and the sums alone against float64's.
    """
    for name, layer, x in random_layers(500, seed=70, rows=(1, 4, 5, 6, 7, 16, 17, 33, 49)):
        expected = on(layer, AMX, "float32")(x)
        q, _ = layer.backend.prologue(x, layer.operands())
        sums = accumulate_reference(q, layer.operands().codes)
        for kernel in library.loaded():
            assert same(on(layer, kernel, kernel)(x), expected), f"{kernel}: {name}"
            assert torch.equal(layer.backend.accumulate(q, layer.operands()), sums), f"{kernel}: {name}"


def documented(k: int, n: int, dtype: torch.dtype = torch.bfloat16, block: int = 16) -> DuQuantLinear:
    spec = LinearSpec(k, n, block_in=block, block_out=16)
    return DuQuantLinear.from_linear(linear(k, n, dtype=dtype), spec).run_as(INTEGER)


@pytest.mark.parametrize(
    ("k", "n", "m", "block"),
    [
        (1664, 288, 70, 16),  # a strip that is not whole, two jobs, an odd number of groups
        (128, 64, 800, 16),  # two runs of rows
        (6144, 32, 230, 16),  # two runs, since codes have to stay in the cache
        (1024, 96, 33, 32),
        (1024, 96, 33, 64),
        (2048, 96, 33, 128),
        (640, 96, 33, 128),  # block scales that do not fill their bytes
    ],
)
def test_the_documented_format_equals_vnni(k, n, m, block, tiles):
    layer, x = documented(k, n, block=block), inputs(m, k).bfloat16()
    x[1] = 1e-40  # subnormal codes and sums
    x[2] = 0
    x[3, 5], x[4, 6] = float("inf"), float("nan")
    before = tiles.executed()
    for dtype in (torch.bfloat16, torch.float32):
        assert same(on(layer, AMX, AMX)(x.to(dtype)), on(layer, "avx512_vnni", "avx512_vnni")(x.to(dtype)))
    products = 2 * -(-m // 16) * (-(-n // 16)) * (k // 64)
    assert tiles.count is None or tiles.executed() - before > products


@pytest.mark.parametrize("m", [5, 33])
def test_extreme_codes_give_their_sums(m, tiles):
    layer = on(documented(1536, 96), AMX, AMX)
    layer.codes.fill_(0x88)  # every code -8
    layer.block_scale.fill_(0x77)  # every block scale 16
    for code in (-128, 127):
        q = torch.full((m, 1536), code, dtype=torch.int8)
        assert layer.backend.accumulate(q, layer.operands()).unique().tolist() == [-128 * code * 1536]


def test_outputs_below_the_normal_numbers_equal_vnni(tiles):
    """Where a quarter of what Hadamard's matrix gets is no float32: rounded, two outputs would differ."""
    layer, x = documented(128, 256), inputs(200, 128).bfloat16()
    layer.bias.zero_()
    layer.row_scale *= 2.0**-134 / on(layer, "avx512_vnni", "avx512_vnni")(x).float().std()
    expected = layer(x)
    assert 0.2 < (expected != 0).double().mean() < 0.4
    assert same(on(layer, AMX, AMX)(x), expected)


@pytest.mark.parametrize("bits", [4, 8])
def test_whole_chunks_without_block_scales_equal_vnni(bits, tiles):
    spec = LinearSpec(1280, 96, weight=IntFormat(bits), rotation=Rotation.HADAMARD)
    layer = DuQuantLinear.from_linear(linear(1280, 96), spec).run_as(INTEGER)
    operands = layer.operands()._replace(block_scale=None)
    q = torch.randint(-128, 128, (37, 1280), generator=torch.Generator().manual_seed(0), dtype=torch.int8)
    by_tiles, by_vnni = (on(layer, k, k).backend.accumulate(q, operands) for k in (AMX, "avx512_vnni"))
    assert torch.equal(by_tiles, by_vnni)


def test_few_rows_stay_on_vnni(tiles):
    layer = documented(256, 64)
    on(layer, AMX, AMX)
    before = tiles.executed()
    layer(inputs(4, 256).bfloat16())
    assert tiles.executed() == before
    layer(inputs(5, 256).bfloat16())
    assert tiles.count is None or tiles.executed() > before


def test_threads_share_a_layer(tiles):
    """Four at once, each with rows of its own number, as a server's."""
    layer = documented(640, 288)
    xs = [inputs(m, 640, seed=m).bfloat16() for m in (5, 20, 49, 65)]
    expected = [on(layer, "avx512_vnni", "avx512_vnni")(x) for x in xs]
    on(layer, AMX, AMX)
    wrong: list[int] = []

    def work(i: int) -> None:
        wrong.extend(i for _ in range(5) if not torch.equal(layer(xs[i]), expected[i]))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_signals_arrive_while_tiles_are_in_use(tiles, tmp_path):
    """Handlers get frames with the tiles in them: Python's own, and one that writes in the handler itself."""
    layer, x = documented(640, 96), inputs(49, 640).bfloat16()
    expected = on(layer, "avx512_vnni", "avx512_vnni")(x)
    on(layer, AMX, AMX)
    seen: list[int] = []

    def see(number: int, _: object) -> None:
        seen.append(number)
        signal.raise_signal(signal.SIGUSR1)

    before = signal.signal(signal.SIGALRM, see)
    with (tmp_path / "tracebacks").open("w+") as file:
        faulthandler.register(signal.SIGUSR1, file)
        signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
        try:
            assert all(torch.equal(layer(x), expected) for _ in range(10))
            while not seen:
                layer(x)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            faulthandler.unregister(signal.SIGUSR1)
        file.seek(0)
        assert "test_signals_arrive" in file.read()


def test_a_forked_child_may_use_tiles(tiles):
    """Forked while another thread uses them."""
    layer, x = documented(640, 96), inputs(20, 640).bfloat16()
    expected = on(layer, "avx512_vnni", "avx512_vnni")(x)
    on(layer, AMX, AMX)
    threads, has_ended = torch.get_num_threads(), threading.Event()

    def use() -> None:
        while not has_ended.is_set():
            layer(x)

    torch.set_num_threads(1)  # OpenMP's threads are not there in a child
    other = threading.Thread(target=use)
    other.start()
    try:
        child = os.fork()
        if child == 0:
            os._exit(0 if torch.equal(layer(x), expected) else 1)
        assert os.waitpid(child, 0)[1] == 0
    finally:
        has_ended.set()
        other.join()
        torch.set_num_threads(threads)


def test_no_rows_and_a_permutation_that_points_outside(tiles):
    layer = on(documented(256, 64), AMX, AMX)
    assert layer(torch.zeros(0, 256)).shape == (0, 64)
    layer.transforms.perm[5] = 256
    with pytest.raises(library.NativeKernelError, match="names a channel that is not there"):
        layer(inputs(7, 256))


def test_compiled_by_pytorch_it_is_the_same_operator(tiles):
    layer = on(documented(256, 64), AMX, AMX)
    compiled_layer = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=True)
    x = inputs(9, 256).bfloat16()
    before = tiles.executed()
    with torch.no_grad():
        assert torch.equal(compiled_layer(x), layer(x))
    assert tiles.count is None or tiles.executed() > before


def test_the_roofline_counts_the_products_of_tiles(tiles):
    assert library.peak_operations(AMX, 3) == 3 * 4 * 16 * 16 * 64 * 2
