"""Running a script of the repository the way a user would."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]


def shell(
    command: str, *, cwd: Path = REPO, timeout: float = 60, **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run a command without any setting of the caller's; `environ` is added."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GR00T_") and k != "CI"}
    return subprocess.run(
        ["bash", "-c", command],
        cwd=cwd,
        env=clean | environ,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def heed_signals() -> None:
    """Run in a child before its program: it hears of what this process may have been started to ignore.

    Tests in the background (`nohup`, `&`) are, and their children after them.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
