"""scripts/bench/policy.py on the small model. Oracles: ratios and the limit, by hand from its own figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shell import REPO


def bench(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "scripts/bench/policy.py", "--folder", str(folder), "--small", *options],
        cwd=REPO,
        env={**os.environ, "PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_arms_answer_in_turns_and_the_limit_follows_from_the_stages(tmp_path: Path) -> None:
    done = bench(tmp_path, "--rounds", "1", "--steps", "2", "--threads", "1", "--profile")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    (row,) = found["rows"]
    assert row["speedup"]["bf16"] == 1.0
    # One turn, so the median is that turn's ratio; milliseconds are rounded to a tenth.
    assert row["speedup"]["integer"] == pytest.approx(row["ms"]["bf16"] / row["ms"]["integer"], rel=0.02)
    stages = found["stages"]["bf16"]
    apart = [stages[name] for name in ("vision", "language model", "adapter", "diffusion transformer")]
    assert stages["quantized layers"] < sum(apart) < stages["total"]
    assert found["limits"] == {
        "document": pytest.approx(1 / (1 - stages["quantized layers"] / stages["total"]))
    }
    # Measured: 0.056 on an AMD EPYC.
    assert found["action_errors"]["bf16"] == 0 < found["action_errors"]["integer"] < 0.5
    # A process with torch and this model: 0.53 GB measured.
    assert all(0.2e9 < peak < 2e9 for peak in found["peak_bytes"].values())
    for name, costly in found["operators"].items():
        assert [op["self_ms"] for op in costly] == sorted((op["self_ms"] for op in costly), reverse=True)
        assert len(costly) == 10
        assert 0.5 < sum(op["share"] for op in costly) <= 1
        assert f"| {name}, 2 steps | calls | ms | share |" in done.stdout
    # Two language layers of seven linears, and four of the diffusion transformer of two, at both steps.
    (quantized,) = (op for op in found["operators"]["integer"] if op["name"] == "gr00t_duquant::linear")
    assert quantized["calls"] == 2 * 7 + 4 * 2 * 2


def test_an_unknown_arm_is_refused_by_name(tmp_path: Path) -> None:
    done = bench(tmp_path, "--arms", "bf16", "intger")
    assert done.returncode == 1
    assert "error: --arms intger: did you mean integer" in done.stderr
    assert not list(tmp_path.iterdir())
