"""Oracles: the system's own words, and the modules of a process that only asked where it is."""

from __future__ import annotations

import datetime
import platform
import subprocess
import sys

from gr00t.machine import describe_host


def test_a_host_is_described_by_date_commit_and_python() -> None:
    told = describe_host()
    assert told.startswith(datetime.date.today().isoformat() + ", commit ")
    assert told.endswith(f"Python {platform.python_version()}")


def test_it_takes_no_torch(repo) -> None:
    program = (
        "import sys; from gr00t.machine import describe_host; describe_host(); print('torch' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=repo, capture_output=True, text=True, check=True
    )
    assert run.stdout == "False\n"
