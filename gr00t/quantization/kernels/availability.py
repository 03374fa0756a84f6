"""Which kernels can run on a device, and why there are none: the facts that `choice` chooses by."""

from __future__ import annotations

import importlib.util

import torch

from gr00t.quantization.kernels import library
from gr00t.quantization.settings.options import TRITON

# Ampere: the first with the int8 instructions that Triton multiplies codes by.
OLDEST_CAPABILITY = (8, 0)

# On `meta` a layer has the kernels of the CPU, until it gets somewhere.
_OF_A_CPU = ("cpu", "meta")


def kernels_for(device: torch.device) -> tuple[tuple[str, ...], str]:
    """Return the names of the kernels that can run on `device`, fastest first, and why not all, or none."""
    if device.type != "cuda":
        return library.supported(), library.why_not()
    reason = why_not_here(TRITON, device)
    return ((), reason) if reason else ((TRITON,), "")


def loaded_for(device: torch.device) -> tuple[str, ...]:
    """Return the names of all kernels that this process has for `device`, those for tests included."""
    return tuple(name for name in (*library.loaded(), TRITON) if not why_not_here(name, device))


def why_not_here(name: str, device: torch.device, *, stays: bool = True) -> str:
    """Return why a kernel cannot compute a layer on `device`; empty where it can.

    Args:
        name: of the kernel.
        device: where the layer is.
        stays: whether it stays there: a layer is quantized on a CPU and then moved to a GPU, if there is.
    """
    if name != TRITON:
        return library.why_not_loaded(name) if device.type in _OF_A_CPU else "it is for CPUs"
    has_triton = importlib.util.find_spec("triton") is not None  # not imported: that takes a second
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        return why_no_triton(has_triton, torch.version.hip is not None, capability)
    if device.type in _OF_A_CPU and has_triton:
        if not stays and torch.cuda.is_available():
            return ""
        from gr00t.quantization.kernels.triton.launch import is_interpreted

        if is_interpreted():
            return ""
    return "Triton's run on a GPU"


def why_no_triton(has_triton: bool, is_amd: bool, capability: tuple[int, int]) -> str:
    """Return why Triton's kernels cannot run on a GPU of that compute capability; empty where they can."""
    if is_amd:
        return "Triton's are written for NVIDIA's GPUs"
    if not has_triton:
        return "triton is not installed; pip install triton, or this package with its extra gpu"
    if capability < OLDEST_CAPABILITY:
        needed, got = (".".join(map(str, version)) for version in (OLDEST_CAPABILITY, capability))
        return f"Triton's need compute capability {needed}, this GPU has {got}"
    return ""
