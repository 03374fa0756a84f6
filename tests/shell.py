"""Running a script of the repository the way a user would."""

from __future__ import annotations

import os
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
