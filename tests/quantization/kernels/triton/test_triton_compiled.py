"""Triton's kernels compiled for GPUs that need not be there. Oracle: the instructions of the result."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from gr00t.quantization.kernels.triton.tiles import gemm_tile, power_of_two, restores_in_tile, rotation_tile
from tests.shell import REPO

SLOW = pytest.mark.slow

# Bytes of shared memory that a block may have where it is least: on compute capability 8.6 and 8.9.
LEAST_SHARED = 99 * 1024


@pytest.mark.parametrize(
    ("capability", "processors", "rotation", "block", "bits"),
    [
        (90, 4, "hadamard", 16, 4),
        pytest.param(90, 132, "svd", 16, 4, marks=SLOW),
        pytest.param(90, 132, "duquant", 128, 4, marks=SLOW),
        pytest.param(90, 132, "none", 16, 4, marks=SLOW),
        pytest.param(90, 4, "hadamard", 24, 4, marks=SLOW),
        pytest.param(80, 4, "hadamard", 64, 4, marks=SLOW),
        *[pytest.param(90, 4, "hadamard", 16, bits, marks=SLOW) for bits in (2, 3, 5, 6, 7, 8)],
        *[pytest.param(80, 132, "hadamard", 16, bits, marks=SLOW) for bits in (3, 6)],
        pytest.param(90, 132, "none", 24, 3, marks=SLOW),
    ],
)
def test_they_compile_to_int8_matrix_instructions_and_exact_arithmetic(
    capability, processors, rotation, block, bits, tmp_path
):
    """200 tokens, 256 -> 512: on few processors by the largest tile, on many by the smallest."""
    pytest.importorskip("triton", reason="triton is not installed; run: ./scripts/setup_env.sh core gpu")
    environ = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "tests.quantization.kernels.triton.compile_triton"]
    done = subprocess.run(
        [*command, str(capability), str(processors), rotation, str(block), str(bits)],
        env=environ | {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(REPO)},
        cwd=REPO,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    compiled = [json.loads(line) for line in done.stdout.splitlines()]
    assert {"_quantize_kernel", "_gemm_kernel", "_epilogue_kernel"} <= {found["kernel"] for found in compiled}
    for found in compiled:
        name, ptx = found["kernel"], found["ptx"]
        assert found["shared"] <= LEAST_SHARED
        assert "div.full" not in ptx, "a division that is only nearly right"
        if name == "_quantize_kernel":
            assert "div.rn.f32" in ptx
        if name == "_gemm_kernel":
            is_wide = capability == 90 and processors == 4
            instruction = (
                r"wgmma\.mma_async\S*\.s32\.s8\.s8" if is_wide else r"mma\.sync\S*\.s32\.s8\.s8\.s32"
            )
            assert re.search(instruction, ptx)
            assert "cp.async" in ptx, "weights are not fetched ahead"
        if rotation == "none":
            assert "fma.rn.f32" not in ptx, "a product and the bias have become one"


@pytest.mark.parametrize(
    ("m", "n", "expected"),
    [
        *[(49, 6144, (64, 32)), (49, 1536, (64, 16)), (1, 6144, (16, 32)), (17, 6144, (32, 32))],
        *[(566, 6144, (128, 128)), (566, 2048, (64, 128)), (566, 1024, (64, 64)), (98, 2048, (64, 16))],
    ],
)
def test_a_tile_is_the_largest_of_which_every_processor_gets_one(m, n, expected):
    """Counted by hand for the 132 multiprocessors of an H100."""
    assert gemm_tile(m, n, 132)[:2] == expected


@pytest.mark.parametrize("m", [1, 16, 17, 49, 64, 65, 566, 100_000])
@pytest.mark.parametrize("block_out", [1, 16, 32, 64])
def test_every_tile_holds_what_it_must(m, block_out):
    for n in (1, 64, 1536, 151_936):
        for processors in (1, 46, 132):
            tile = gemm_tile(m, n, processors, block_out)
            assert all(power_of_two(size) == size >= 16 for size in tile[:3])
            assert tile.n % block_out == 0
            assert tile.m < 2 * max(16, m)


def test_which_rotations_a_tile_undoes():
    assert restores_in_tile(1, 16)
    assert restores_in_tile(1, 64)
    assert not restores_in_tile(1, 128)  # wider than a tile of the GEMM may be
    assert not restores_in_tile(1, 24)  # not a power of two
    assert not restores_in_tile(128, 16)  # one for each block
    assert rotation_tile(4) == (4, 16, 16)
    assert rotation_tile(24) == (24, 32, 32)
    assert rotation_tile(256) == (256, 256, 32)
