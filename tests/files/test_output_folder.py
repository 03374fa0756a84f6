"""Programs whose results have no place. Oracle: the one line that names the place and the option."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.shell import REPO

PROGRAMS = {
    "calibrate.py": ("--packdir", "--model-path", "examples/Libero/demo_policy", "--synthetic", "32"),
    "train.py": ("--output", "--data", "none", "--checkpoint", "none", "--steps", "1"),
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_place_that_cannot_be_a_folder_names_the_option(program: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "results"
    option, *flags = PROGRAMS[program]
    done = subprocess.run(
        [sys.executable, f"scripts/{program}", *flags, option, str(place)],
        cwd=REPO,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(REPO), "GR00T_DUQUANT_WBITS_DEFAULT": "4"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"error: no results can be written to {place} (Not a directory); name another folder: {option} FOLDER"
    )
