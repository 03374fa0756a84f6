"""Accumulators: every one equals the float64 reference bit for bit, extreme codes included."""

from __future__ import annotations

import pytest
import torch

from gr00t.quantization.kernels import operators
from gr00t.quantization.kernels.availability import kernels_for, why_no_triton
from gr00t.quantization.kernels.choice import choose_accumulator, choose_transforms
from gr00t.quantization.kernels.int8_trial import try_int8
from gr00t.quantization.kernels.library import NativeKernelError
from gr00t.quantization.kernels.torch_reference import ACCUMULATORS, accumulate_reference


def usable() -> list[str]:
    # The int8 GEMM is only claimed to be exact where it is chosen.
    return ["float32"] + (["int8"] if try_int8()[0] else [])


@pytest.mark.parametrize("name", usable())
@pytest.mark.parametrize(
    ("m", "k", "n"), [(1, 16, 8), (1, 8960, 24), (49, 100, 37), (17, 2048, 64), (3, 1, 5)]
)
@pytest.mark.parametrize("extreme", [None, -128, 127])
def test_equals_the_reference(name, m, k, n, extreme):
    """-128 makes the largest sums; 127 large odd ones, which float32 could not hold."""
    generator = torch.Generator().manual_seed(m * k * n)
    q_x, q_w = (
        torch.randint(-128, 128, shape, generator=generator, dtype=torch.int8) for shape in ((m, k), (n, k))
    )
    if extreme is not None:
        q_x.fill_(extreme)
        q_w.fill_(extreme)
    acc = ACCUMULATORS[name](q_x, q_w)
    assert acc.dtype == torch.int32
    assert torch.equal(acc, accumulate_reference(q_x, q_w))
    assert torch.equal(acc.long(), q_x.long() @ q_w.long().T)


def test_one_is_chosen_and_says_why():
    is_exact, tried = try_int8()
    assert choose_accumulator(torch.device("cpu"), why_not="no compiler") == (
        "int8" if is_exact else "float32",
        f"{tried}; no compiled kernels: no compiler",
    )
    assert choose_accumulator(torch.device("meta")) == (
        "float32",
        "no exact int8 GEMM is known for this meta",
    )


def test_integer_execution_is_refused_where_no_int8_gemm_is_known():
    with pytest.raises(
        ValueError, match="EXECUTION=integer: no exact int8 GEMM is known for this mps; EXECUTION=fake"
    ):
        choose_accumulator(torch.device("mps"), must_be_integer=True)
    # What others have is not for it.
    assert choose_accumulator(torch.device("mps"), False, ("fast",))[0] == "float32"


CUDA = torch.device("cuda")


def test_on_a_gpu_tritons_kernels_are_chosen_and_the_reason_said():
    for must_be_integer in (True, False):
        assert choose_accumulator(CUDA, must_be_integer, ("triton",)) == (
            "triton",
            "the compiled kernel triton, on packed codes",
        )
    assert choose_transforms(CUDA, ("triton",)) == ("triton", "compiled, one pass each")


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ((True, False, (9, 0)), ""),
        ((True, False, (8, 0)), ""),
        (
            (False, False, (9, 0)),
            "triton is not installed; pip install triton, or this package with its extra gpu",
        ),
        ((True, False, (7, 5)), "Triton's need compute capability 8.0, this GPU has 7.5"),
        ((True, True, (9, 4)), "Triton's are written for NVIDIA's GPUs"),
    ],
)
def test_without_tritons_kernels_pytorchs_int8_gemm_is_chosen_and_says_why(facts, why):
    assert why_no_triton(*facts) == why
    if why:
        accumulator = choose_accumulator(CUDA, True, (), why)
        assert accumulator == ("int8", f"CUDA has an int8 GEMM; no compiled kernels: {why}")
        assert choose_transforms(CUDA, (), why) == ("torch", f"no compiled kernels: {why}")


def test_a_kernel_of_the_other_device_is_refused():
    """The operators for CUDA, called for what a CPU has: nothing is moved in silence."""
    with pytest.raises(NativeKernelError, match="'avx2' is not for CUDA devices: expected 'triton'"):
        operators._on_cuda(operators._OPERATORS[0])("avx2")


@pytest.mark.gpu
def test_what_can_run_on_this_gpu():
    names, why = kernels_for(torch.device("cuda"))
    assert names == ("triton",) or why


@pytest.mark.gpu
@pytest.mark.parametrize(("m", "k", "n"), [(1, 16, 8), (49, 100, 37), (566, 2048, 64)])
def test_int8_on_a_gpu_equals_the_reference(m, k, n):
    generator = torch.Generator().manual_seed(0)
    q_x, q_w = (
        torch.randint(-128, 128, shape, generator=generator, dtype=torch.int8) for shape in ((m, k), (n, k))
    )
    acc = ACCUMULATORS["int8"](q_x.cuda(), q_w.cuda())
    assert torch.equal(acc.cpu(), accumulate_reference(q_x, q_w))
