"""The kernels by name, and which of them a layer gets: the one place that turns names into what computes."""

from __future__ import annotations

import torch

from gr00t.quantization.kernels.availability import kernels_for, loaded_for, why_not_here
from gr00t.quantization.kernels.backend import Backend, Kernel, OperatorKernel, TorchKernel
from gr00t.quantization.kernels.choice import choose_accumulator, choose_transforms
from gr00t.quantization.kernels.torch_reference import ACCUMULATORS
from gr00t.quantization.settings.options import TORCH, Execution


def choose_backend(device: torch.device, execution: Execution, named: str | None = None) -> Backend:
    """Return what computes a layer on `device`: the fastest that can run, or who is named.

    Args:
        device: where the layer is.
        execution: `integer` refuses what does not multiply integers.
        named: one of `BACKENDS`.

    Raises:
        ValueError: it has to multiply integers, and nothing that does so exactly is known here; or who is
            named is not here.
    """
    native, why_not = kernels_for(device)
    if named == TORCH:
        native, why_not = (), "BACKEND=torch"
    elif named is not None:
        _check_here(named, device, stays=False)
        native = (named,)
    accumulator, accumulator_reason = choose_accumulator(
        device, execution is Execution.INTEGER, native, why_not
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
    return not any(why_not_here(name, device, stays=False) for name in _compiled(found))


def check_stays(found: Backend, device: torch.device) -> None:
    """Check that a backend can compute a layer that is on `device` and is not moved any more.

    Raises:
        ValueError: naming the kernel that cannot, and those that can.
    """
    for name in _compiled(found):
        _check_here(name, device, stays=True)


def _compiled(found: Backend) -> set[str]:
    return {found.accumulator, found.transformer} - {*ACCUMULATORS, TORCH}


def _check_here(name: str, device: torch.device, stays: bool) -> None:
    reason = why_not_here(name, device, stays=stays)
    if reason:
        there = ", ".join([TORCH, *loaded_for(device)])
        raise ValueError(f"BACKEND={name}: not here for {device.type}: there are {there} ({reason})")
