"""scripts/bench/drift.py on the small random model. Oracles: its layers, by hand; more bits, less error."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from gr00t.testing.random_checkpoint import write_random_checkpoint
from tests.shell import REPO


@pytest.mark.slow
def test_every_part_is_quantized_alone_and_with_the_others(tmp_path) -> None:
    options = ["--model-path", str(write_random_checkpoint(tmp_path)), "--data-config"]
    options += ["examples.Libero.custom_data_config:LiberoDataConfig", "--synthetic", "4", "--recorded", "2"]
    done = subprocess.run(
        [sys.executable, "scripts/bench/drift.py", *options, "--denoising-steps", "1"],
        cwd=REPO,
        env={**os.environ, "PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["observations"] == 2
    in_float32, *rows = found["rows"]
    assert in_float32["layers"] == 0
    # Documented, vision, connector, adapter, DiT attention, all: twice, by both kinds of scales.
    assert [row["layers"] for row in rows] == 2 * [22, 12, 12, 1, 1, 12, 12, 16, 16, 63, 63]
    assert all(0 < row["error"] < 0.5 for row in rows)
    by_row = {(row["what"], row["bits"], row["settings"]): row["error"] for row in rows}
    for part in ("vision", "adapter", "DiT attention"):
        assert by_row[f"{part} alone", "W8A8", "per token"] < by_row[f"{part} alone", "W4A8", "per token"]
