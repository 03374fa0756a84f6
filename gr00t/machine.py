"""One line about where a measurement was made; a figure without it is not quoted."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from pathlib import Path

# In Linux's spelling: x86's, then ARM's.
_INSTRUCTION_SETS = (
    *("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "amx_bf16"),
    *("asimd", "asimddp", "i8mm", "bf16"),
)


def describe_machine(device: str = "cpu") -> str:
    """Return date, commit, processor or GPU, cores, and the versions of Python and torch."""
    import torch

    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else _processor()
    return (
        f"{datetime.date.today().isoformat()}, commit {_commit()}, {name}, {os.cpu_count()} cores "
        f"({torch.get_num_threads()} threads), Python {platform.python_version()}, torch {torch.__version__}"
    )


def describe_host() -> str:
    """The same without torch and its device: for processes that have neither."""
    return (
        f"{datetime.date.today().isoformat()}, commit {_commit()}, {_processor()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}"
    )


def describe_processor() -> str:
    """Return the processor's name, and the instruction sets it has of those that make a difference here."""
    flags = {flag for line in _cpuinfo("flags", "Features") for flag in line.split()}
    known = [flag for flag in _INSTRUCTION_SETS if flag in flags]
    return f"{_processor()}, with {' '.join(known) or 'none of ' + ' '.join(_INSTRUCTION_SETS)}"


def _processor() -> str:
    """Name of the CPU as Linux knows it."""
    names = _cpuinfo("model name")
    return names[0] if names else platform.processor() or platform.machine()


def _cpuinfo(*keys: str) -> list[str]:
    """What Linux says of the processors under these names, one entry for each of them."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    pairs = (line.partition(":") for line in lines)
    return [value.strip() for key, _, value in pairs if key.strip() in keys]


def _commit() -> str:
    """Short hash of the checkout, marked if files differ from it; `unknown` outside a checkout."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        found = subprocess.run(
            [*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        )
        changed = subprocess.run(
            [*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip() + ("+changes" if changed.stdout.strip() else "")
