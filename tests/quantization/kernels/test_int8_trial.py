"""PyTorch's int8 GEMM is believed by what it answers, not by what the processor could do.

Oracles: exact integers (int64), and a library that is told to leave VNNI alone, whose sums saturate.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

from gr00t.quantization.kernels import int8_trial
from gr00t.quantization.kernels.torch_reference import accumulate_reference
from tests.shell import REPO

# One layer whose every code is extreme, without compiled kernels, in a process whose library has no VNNI.
PROGRAM = """
import json, torch
from torch import nn
from gr00t.quantization import DuQuantLinear, IntFormat, LinearSpec, Rotation
from gr00t.quantization.kernels.torch_reference import accumulate_int8

x = torch.full((17, 64), 127, dtype=torch.int8)
spec = LinearSpec(64, 32, weight=IntFormat(8), rotation=Rotation.NONE, permute=False)
layer = DuQuantLinear.from_linear(nn.Linear(64, 32, bias=False).requires_grad_(False), spec)
layer.codes.fill_(127)
backend = layer.backend
print(json.dumps({
    "int8": accumulate_int8(x, x).unique().tolist(),
    "layer": backend.accumulate(x, layer.operands()).unique().tolist(),
    "accumulator": backend.accumulator,
    "reason": backend.accumulator_reason,
}))
"""
OLD_INSTRUCTIONS = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}


@pytest.fixture
def tried_anew():
    int8_trial.try_int8.cache_clear()
    yield
    int8_trial.try_int8.cache_clear()


def test_a_library_that_saturates_is_found_out_and_the_sums_stay_exact():
    if not torch.cpu._is_vnni_supported():
        pytest.skip("this CPU has no VNNI that the library could be told to leave alone")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, **OLD_INSTRUCTIONS, "PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert found["int8"] != [127 * 127 * 64], "this library does not saturate: the test shows nothing"
    assert found["layer"] == [127 * 127 * 64]
    assert found["accumulator"] == "float32"
    assert found["reason"].startswith("PyTorch's int8 GEMM is wrong here: tried 1x")


@pytest.mark.parametrize("product", int8_trial._PRODUCTS)
def test_every_product_that_is_tried_finds_pairs_that_saturate(product, tried_anew, monkeypatch):
    """Products of neighbours added in 16 bits, the input shifted to u8: how it is done without VNNI."""

    def saturating(q_x: torch.Tensor, q_w: torch.Tensor) -> torch.Tensor:
        acc = torch.zeros(len(q_x), len(q_w), dtype=torch.int64)
        u8, s8 = q_x.long() + 128, q_w.long()
        for k in range(0, q_x.shape[1], 2):
            acc += (u8[:, k : k + 2] @ s8[:, k : k + 2].T).clamp(-(2**15), 2**15 - 1)
        return (acc - 128 * s8.sum(1)).int()

    monkeypatch.setattr(int8_trial, "_PRODUCTS", (product,))
    monkeypatch.setattr(int8_trial, "accumulate_int8", saturating)
    m, k, n = product
    assert int8_trial.try_int8() == (
        False,
        f"PyTorch's int8 GEMM is wrong here: tried {m}x{k} by {k}x{n} of extreme codes",
    )
    int8_trial.try_int8.cache_clear()
    monkeypatch.setattr(int8_trial, "accumulate_int8", accumulate_reference)
    assert int8_trial.try_int8() == (
        True,
        "PyTorch's int8 GEMM is exact here: tried 1 products of extreme codes",
    )


def test_one_saturating_form_among_exact_ones_is_found(tried_anew, monkeypatch):
    """A library has several kernels: here the one for a single row is off by one sum."""

    def wrong_for_one_row(q_x: torch.Tensor, q_w: torch.Tensor) -> torch.Tensor:
        acc = accumulate_reference(q_x, q_w)
        acc[-1, -1] += len(q_x) == 1 and q_x.shape[1] == 2048
        return acc

    monkeypatch.setattr(int8_trial, "accumulate_int8", wrong_for_one_row)
    assert int8_trial.try_int8()[1] == (
        "PyTorch's int8 GEMM is wrong here: tried 1x2048 by 2048x80 of extreme codes"
    )


def test_codes_are_extreme_in_every_row():
    codes = int8_trial._extreme(9, 40, torch.Generator().manual_seed(0))
    assert codes.unique().tolist() == [-128, 127]
    assert [len(row.unique()) for row in codes[:5]] == [1, 1, 2, 2, 1]
