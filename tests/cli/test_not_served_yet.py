"""Commands that need a policy refuse GR00T N1.7, whose network alone is here. Oracle: their last line."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.model.gr00t_n1d7.recorded_set import TINY
from tests.shell import REPO

TEXT = (
    "is GR00T N1.7, whose observations cannot be prepared here yet; its network can be loaded "
    "(gr00t.model.checkpoints.open_checkpoint) and its layers listed (gr00t-scan)"
)


@pytest.mark.parametrize(
    ("program", "arguments", "named"),
    [
        ("inference_service.py", ["--server", "--port", "0", "--model-path", str(TINY)], TINY),
        ("export_quantized.py", [str(TINY), "OUT"], TINY),
        ("calibrate.py", ["--model-path", str(TINY), "--packdir", "OUT", "--synthetic", "2"], TINY),
        ("train.py", ["--checkpoint", str(TINY), "--steps", "5", "--dry-run"], TINY),
        (
            "train.py",
            ["--checkpoint", "nvidia/GR00T-N1.7-3B", "--steps", "5", "--dry-run"],
            "nvidia/GR00T-N1.7-3B",
        ),
    ],
)
def test_a_command_that_needs_a_policy_names_the_family_and_ends(
    program: str, arguments: list[str], named: object, tmp_path: object
) -> None:
    environ = {name: text for name, text in os.environ.items() if not name.startswith("GR00T_DUQUANT_")}
    done = subprocess.run(
        [
            sys.executable,
            REPO / "scripts" / program,
            *(a.replace("OUT", f"{tmp_path}/out") for a in arguments),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=REPO,
        env=environ
        | {"PYTHONPATH": str(REPO), "GR00T_DUQUANT_WBITS_DEFAULT": "4", "GR00T_DUQUANT_CALIB_STEPS": "0"},
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"error: {named} {TEXT}"
