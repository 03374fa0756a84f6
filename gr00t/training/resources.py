"""How much memory and disk a training needs, what the machine has of them, and what was really used."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch

from gr00t.training.memory_estimate import MemoryEstimate

LESS_MEMORY = (
    "less is needed with a smaller --batch-size (and --gradient-accumulation-steps), "
    "--no-tune-diffusion-model or --lora-rank"
)

_GIB = 2**30
# What PyTorch says where the main memory does not suffice; a GPU's shortage has a class of its own.
_SHORTAGES = ("can't allocate memory", "not enough memory")
# The most that a container may have, by control groups of version 2 and 1.
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def gib(count: float) -> str:
    """Bytes for people."""
    return f"{count / _GIB:.1f} GiB" if count >= _GIB / 10 else f"{count / 2**20:.1f} MiB"


def describe(estimate: MemoryEstimate, device: torch.device, batch: int) -> str:
    """The need for memory in one line."""
    besides = " beside the program and its batches" if device.type == "cpu" else ""
    parts = [f"weights {gib(estimate.weights)}", f"AdamW {gib(estimate.optimizer)}"]
    if estimate.average:
        parts.append(f"average {gib(estimate.average)}")
    parts.append(
        f"at most {gib(_of_a_step(estimate))} at once of gradients {gib(estimate.gradients)} and activations "
        f"{gib(estimate.activations)} ({batch} samples, {gib(estimate.per_sample)} for each more)"
    )
    return (
        f"memory: about {gib(estimate.peak)} on {device.type}{besides}: {' + '.join(parts)}; "
        f"{estimate.trained / 1e6:.1f} of {estimate.parameters / 1e6:.1f} million parameters are trained"
    )


def _of_a_step(estimate: MemoryEstimate) -> int:
    return estimate.peak - estimate.weights - estimate.optimizer - estimate.average


def shortages(
    estimate: MemoryEstimate, device: torch.device, processes: int, output: Path, kept: int
) -> Iterator[str]:
    """What the machine has less of than the run needs, a line each."""
    free = _free(device)
    needed = estimate.peak * (processes if device.type == "cpu" else 1)
    if free is not None and needed > free:
        yield (
            f"{gib(needed)} are needed on {device}, {gib(free)} are free: the run may not fit; {LESS_MEMORY}"
        )
    main = _free(torch.device("cpu"))
    if device.type != "cpu" and main is not None and estimate.loading * processes > main:
        yield (
            f"{gib(estimate.loading * processes)} of main memory are needed for loading, {gib(main)} are free"
        )
    existing = next(path for path in (output.absolute(), *output.absolute().parents) if path.exists())
    room = shutil.disk_usage(existing).free
    # One more than is kept: the oldest is removed when the newest is there.
    together = kept + 1 if kept else 1
    if estimate.checkpoint * together > room:
        yield (
            f"checkpoints need {gib(estimate.checkpoint * together)} of disk ({together} of "
            f"{gib(estimate.checkpoint)}), {existing} has {gib(room)}; --save-total-limit keeps fewer"
        )


def is_shortage(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice."""
    kinds = MemoryError, torch.OutOfMemoryError
    return isinstance(error, kinds) or any(text in str(error) for text in _SHORTAGES)


def used(device: torch.device) -> int:
    """The most memory so far, in bytes: what tensors had on the GPU, or this process in all."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def compare(estimate: MemoryEstimate, device: torch.device, before: int) -> str:
    """What was used and what was estimated, in one line; `before` is `used` before anything was loaded."""
    besides = f", {gib(before)} of it before anything was loaded" if before else ""
    return f"memory: at most {gib(used(device))} was used{besides}; {gib(estimate.peak)} was estimated"


def _free(device: torch.device) -> int | None:
    """Bytes that can be allocated; None where nobody says."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    found = []
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        lines = dict(line.split(":", 1) for line in meminfo.read_text(encoding="utf-8").splitlines())
        found.append(int(lines["MemAvailable"].split()[0]) * 1024)
    for limit in map(Path, _LIMITS):
        if limit.is_file() and (text := limit.read_text(encoding="utf-8").strip()) != "max":
            found.append(int(text))
    return min(found) if found else None
