"""The kernels by name, and which of them a layer gets: the one place that turns names into what computes."""

from __future__ import annotations

import torch

from gr00t.quantization.kernels import library
from gr00t.quantization.kernels.availability import kernels_for
from gr00t.quantization.kernels.backend import Backend, Kernel, OperatorKernel, TorchKernel
from gr00t.quantization.kernels.choice import TORCH, choose_accumulator, choose_transforms
from gr00t.quantization.kernels.torch_reference import ACCUMULATORS
from gr00t.quantization.settings.options import Execution


def choose_backend(device: torch.device, execution: Execution) -> Backend:
    """Return what computes a layer on `device`.

    Raises:
        ValueError: it has to multiply integers, and nothing that does so exactly is known here.
    """
    native, why_not = kernels_for(device)
    accumulator, accumulator_reason = choose_accumulator(
        device, execution is not Execution.FAKE, native, why_not, or_else=execution is Execution.AUTO
    )
    transformer, transformer_reason = choose_transforms(device, native, why_not)
    return backend(transformer, accumulator, transformer_reason, accumulator_reason)


def backend(transformer: str, accumulator: str, *reasons: str) -> Backend:
    """Return the backend of these names.

    Args:
        transformer: "torch", or a compiled kernel. Whether this machine has it shows when it is called.
        accumulator: in PyTorch's `ACCUMULATORS`, or a compiled kernel.
        reasons: why the one, and why the other.
    """
    sums: Kernel = TorchKernel(accumulator) if accumulator in ACCUMULATORS else OperatorKernel(accumulator)
    if transformer == accumulator or (transformer == TORCH and accumulator in ACCUMULATORS):
        around = sums
    else:
        around = TorchKernel("reference") if transformer == TORCH else OperatorKernel(transformer)
    return Backend(around, sums, transformer, accumulator, *reasons)


def is_there(found: Backend, device: torch.device) -> bool:
    """Whether this process has the kernels of a backend that another one may have chosen."""
    compiled = kernels_for(device)[0] if device.type == "cuda" else library.loaded()
    return {found.accumulator, found.transformer} <= {*ACCUMULATORS, TORCH, *compiled}
