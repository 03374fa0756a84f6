"""What is installed on this machine, found without importing any of it."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from gr00t.cli.checks.check import Check

SETUP = "scripts/setup_env.sh libero"
# Distribution, whether an evaluation imports it, and what it is for.
PACKAGES = (
    ("hf-libero", True, "tasks, initial states"),
    ("robosuite", True, "robot and controller"),
    ("bddl", True, "goals"),
    ("mujoco", True, "physics and drawing"),
    ("torch", False, "the policy server; not needed where the server runs elsewhere"),
    ("fast-simplification", False, "light robot meshes; without it only --rendering full"),
)
# A simulator's memory: measured 0.6 GB with stand-ins, up to 1.0 GB with LIBERO's own meshes.
WORKER_GIB = 1.0


def check_python() -> Check:
    """The interpreter that this program runs in."""
    found = f"{platform.python_version()} ({sys.executable})"
    if (3, 10) <= sys.version_info[:2] <= (3, 13):  # as scripts/setup_env.sh: what MuJoCo has wheels for
        return Check("python", "ok", found, needed=True)
    return Check("python", "missing", f"{found}: 3.10 to 3.13 is needed", f"PYTHON=python3.11 {SETUP}", True)


def check_project() -> Check:
    """This repository as a package of the interpreter."""
    if importlib.util.find_spec("gr00t") is None:
        return Check("gr00t", "missing", "this project is not installed in this Python", SETUP, needed=True)
    return Check("gr00t", "ok", "found")


def check_packages() -> list[Check]:
    """Their versions."""
    checks = []
    for name, needed, purpose in PACKAGES:
        try:
            checks.append(Check(name, "ok", version(name), needed=needed))
        except PackageNotFoundError:
            checks.append(Check(name, "missing", f"not installed ({purpose})", SETUP, needed))
    return checks


def check_machine(meminfo: Path = Path("/proc/meminfo")) -> tuple[Check, int]:
    """Cores and memory, and how many simulators they are good for."""
    cores = len(os.sched_getaffinity(0))
    available = _available_gib(meminfo)
    workers = max(1, min(cores, int(available / WORKER_GIB))) if available else cores
    memory = f"{available:.1f} GB of memory free" if available else "memory unknown"
    detail = f"{cores} cores, {memory}: --workers {workers}"
    if workers > 1:
        detail += f", or {max(1, workers // 2)} if the policy shares these cores"
    enough = not available or available >= WORKER_GIB
    return Check("machine", "ok" if enough else "slow", detail), workers


def _available_gib(meminfo: Path) -> float:
    """Memory that can be had without swapping, in GiB; 0.0 if the system does not tell."""
    lines = meminfo.read_text().splitlines() if meminfo.is_file() else []
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) / 2**20 if found else 0.0


def check_video() -> Check:
    """Whether videos can be written: a short one is."""
    try:
        import numpy as np

        from gr00t.eval.rollout.media import encode_video

        size = len(encode_video([np.zeros((64, 64, 3), np.uint8)] * 4, fps=10))
    except (ImportError, OSError, RuntimeError) as error:
        return Check("video", "missing", f"no video can be written ({error}); --video none works", SETUP)
    return Check("video", "ok", f"H.264 works (a file of {size} bytes)")


def describe_choices(environ: Mapping[str, str]) -> Check:
    """The variables that decide what an evaluation uses."""
    names = ("LIBERO_ASSETS", "MUJOCO_GL", "HF_HUB_OFFLINE", "XDG_CACHE_HOME")
    chosen = [f"{name}={environ[name]}" for name in names if environ.get(name)]
    return Check("environment", "ok", ", ".join(chosen) or "nothing set that concerns LIBERO")
