"""One line about where a measurement was made; a figure without it is not quoted."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from pathlib import Path


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


def _processor() -> str:
    """Name of the CPU as Linux knows it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


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
