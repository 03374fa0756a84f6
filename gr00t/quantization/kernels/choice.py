"""What multiplies the codes of a layer, and what works around it: chosen by predicates, with the reason.

Every choice gives the same sums, so all executions take the fastest: `native` are the compiled kernels that
can run on the device, fastest first (`availability`), C++ on a CPU, Triton's on a GPU; where there are none,
PyTorch's operations. `integer` differs in what it refuses. Who wants to compare two implementations names one
(`registry.choose_backend`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gr00t.quantization.kernels.int8_trial import try_int8
from gr00t.quantization.settings.options import TORCH

# On `meta` those of the CPU are chosen, until the layer gets somewhere.
_HAVE_KERNELS = ("cpu", "cuda", "meta")


def choose_accumulator(
    device: torch.device, must_be_integer: bool = False, native: Sequence[str] = (), why_not: str = ""
) -> tuple[str, str]:
    """Return the name of what multiplies codes on `device`, and why it was chosen.

    Args:
        device: where the layer is; on `meta` one is chosen that the CPU has, until it gets there.
        must_be_integer: EXECUTION=integer: integer instructions only.
        native: compiled kernels that can run.
        why_not: why there are none, or not those that the processor would have.

    Raises:
        ValueError: it has to multiply integers, and none that is exact is known.
    """
    if native and device.type in _HAVE_KERNELS:
        return native[0], f"the compiled kernel {native[0]}, on packed codes{_without(why_not)}"
    name, reason = _torchs(device)
    if device.type in ("cpu", "cuda"):
        reason = f"{reason}; no compiled kernels: {why_not}"
    if must_be_integer and name != "int8" and device.type != "meta":
        raise ValueError(f"EXECUTION=integer: {reason}; EXECUTION=fake gives the same numbers here")
    return name, reason


def choose_transforms(device: torch.device, native: Sequence[str] = (), why_not: str = "") -> tuple[str, str]:
    """Return what permutes, rotates and quantizes inputs and scales and restores outputs, and why.

    A compiled kernel, each side in one pass; or `TORCH`.
    """
    if device.type not in _HAVE_KERNELS:
        return TORCH, f"no compiled kernels for {device.type}"
    if not native:
        return TORCH, f"no compiled kernels: {why_not}"
    return native[0], f"compiled, one pass each{_without(why_not)}"


def choose_search(device: torch.device, native: Sequence[str] = ()) -> str:
    """Return what searches a weight's scales: a compiled kernel where the weight is on a CPU, or `TORCH`."""
    return native[0] if device.type == "cpu" and native else TORCH


def _without(why_not: str) -> str:
    return f"; without {why_not}" if why_not else ""


def _torchs(device: torch.device) -> tuple[str, str]:
    """Which of PyTorch's GEMMs, and why."""
    if device.type == "cuda":
        return "int8", "CUDA has an int8 GEMM"
    if device.type != "cpu":
        return "float32", f"no exact int8 GEMM is known for this {device.type}"
    is_exact, tried = try_int8()
    return ("int8" if is_exact else "float32"), tried
