"""Servers to ask: the program itself, in a process of its own, and what it is asked."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gr00t.serving.client import ExternalRobotInferenceClient

SCRIPTS = Path(__file__).resolve().parents[2]
STATES = {"x": 1, "y": 1, "z": 1, "roll": 1, "pitch": 1, "yaw": 1, "gripper": 2}


@dataclasses.dataclass(frozen=True)
class Server:
    """A running server."""

    port: int
    pid: int

    def cpu_seconds(self) -> float:
        """Return the CPU time that it has used, of all threads; 0 where the system does not tell."""
        stat = Path(f"/proc/{self.pid}/stat")
        if not stat.is_file():
            return 0.0
        fields = stat.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_bytes(self) -> int:
        """Return the most memory that was resident at once so far; 0 where the system does not tell."""
        return _kilobytes(Path(f"/proc/{self.pid}/status"), "VmHWM") * 1024


def available_bytes() -> int:
    """Return the memory that programs can still have; 0 where the system does not tell."""
    return _kilobytes(Path("/proc/meminfo"), "MemAvailable") * 1024


def _kilobytes(path: Path, name: str) -> int:
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0)


def example(number: int) -> dict[str, Any]:
    """Return an observation as LIBERO's, of its own for every client."""
    random = np.random.default_rng(number)
    observation: dict[str, Any] = {
        f"video.{camera}": random.integers(0, 256, (1, 256, 256, 3), dtype=np.uint8)
        for camera in ("image", "wrist_image")
    }
    observation |= {f"state.{key}": random.uniform(-0.1, 0.1, (1, width)) for key, width in STATES.items()}
    objects = ["bottle", "black bowl", "plate", "milk carton", "orange juice"]
    text = f"pick up the {objects[number % len(objects)]} and place it in the basket"
    observation["annotation.human.action.task_description"] = [text]
    return observation


def small_checkpoint(folder: Path) -> Path:
    """Write a small random checkpoint, in a process of its own: torch stays out of this one."""
    command = [sys.executable, str(SCRIPTS / "make_demo_checkpoint.py"), "--folder", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment())
    return folder


@contextlib.contextmanager
def serving(
    name: str, flags: Mapping[str, object], folder: Path, environ: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Run the program that serves; yield it when it answers.

    Args:
        name: what its log is called, in `folder`.
        flags: of the program, without `--` and port.
        folder: for its log.
        environ: its environment; None: this process's.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, str(SCRIPTS / "inference_service.py"), "--server", "--port", str(port)]
    command += [word for flag, value in flags.items() for word in (f"--{flag}", str(value))]
    log = folder / f"server-{name}.log"
    environ = environment() if environ is None else environ
    with log.open("w") as stderr, subprocess.Popen(command, stderr=stderr, env=environ) as process:
        try:
            with ExternalRobotInferenceClient(port=port) as client:
                while not client.ping(1_000):
                    if process.poll() is not None:
                        raise SystemExit(f"error: the server ended:\n{log.read_text()[-2000:]}")
            yield Server(port, process.pid)
        finally:
            process.send_signal(signal.SIGTERM)


def environment() -> dict[str, str]:
    """Return this process's environment, in which the programs find the repository."""
    paths = [str(SCRIPTS.parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
