"""Which kernels can run on a device, and why there are none: the facts that `choice` chooses by."""

from __future__ import annotations

import importlib.util

import torch

from gr00t.quantization.kernels import library
from gr00t.quantization.settings.options import TRITON

# Ampere: the first with the int8 instructions that Triton multiplies codes by.
OLDEST_CAPABILITY = (8, 0)


def kernels_for(device: torch.device) -> tuple[tuple[str, ...], str]:
    """Return the names of the kernels that can run on `device`, fastest first, and why not all, or none."""
    if device.type != "cuda":
        return library.supported(), library.why_not()
    reason = why_no_triton(
        importlib.util.find_spec("triton") is not None,  # not imported: that takes a second
        torch.version.hip is not None,
        torch.cuda.get_device_capability(device),
    )
    return ((), reason) if reason else ((TRITON,), "")


def loaded_for(device: torch.device) -> tuple[str, ...]:
    """Return the names of all kernels that this process has for `device`, those for tests included.

    On a CPU Triton's are among them: interpreted, or for a layer that is still to be moved to a GPU.
    """
    if device.type == "cuda":
        return kernels_for(device)[0]
    if device.type not in ("cpu", "meta"):
        return ()
    return (*library.loaded(), *([TRITON] if importlib.util.find_spec("triton") is not None else []))


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
