"""The policy in examples/Libero/demo_policy: what a clone carries, what quantization takes, and that it acts.

Oracles: the files' sizes, the dry-run's own count, and the simulator's verdict on episodes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shell import REPO

POLICY = REPO / "examples" / "Libero" / "demo_policy"
DATA_CONFIG = "examples.Libero.demo_data_config:DemoDataConfig"


def run_script(*command: str) -> subprocess.CompletedProcess[str]:
    """Run one of the scripts with no setting of quantization exported, in a repository without a hub."""
    environ = {name: text for name, text in os.environ.items() if not name.startswith("GR00T_")}
    environ |= {"PYTHONPATH": str(REPO), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, *command], cwd=REPO, env=environ, capture_output=True, text=True, check=False
    )


def test_a_repository_can_carry_it():
    size = sum(path.stat().st_size for path in POLICY.rglob("*") if path.is_file())
    assert size <= 20e6


def test_the_documented_settings_take_its_language_model_and_its_mlps():
    run = run_script("scripts/scan_linear_layers.py", "--json", "--model-path", str(POLICY))
    assert run.returncode == 0, run.stderr
    taken = [row["name"] for row in json.loads(run.stdout)["layers"] if row["settings"]]
    language = [name for name in taken if name.startswith("backbone.language_model.layers.")]
    mlps = [name for name in taken if name.startswith("action_head.layers.") and ".mlp." in name]
    assert (len(language), len(mlps), len(taken)) == (4 * 7, 6 * 2, 40)


def play(output: Path, arms: str, trials: int) -> dict[str, int]:
    """Play `trials` episodes of each of five prompts on recorded placements; successes by arm."""
    run = run_script(
        *("scripts/evaluate.py", "--suite", "libero_object_prompts", "--placement", "recorded"),
        *("--arms", arms, "--trials", str(trials), "--assets", "stand-ins", "--video", "none"),
        *("--workers", "2", "--model", str(POLICY), "--data-config", DATA_CONFIG),
        *("--output", str(output)),
    )
    assert run.returncode == 0, run.stderr
    rows = json.loads((output / "report.json").read_text(encoding="utf-8"))["rows"]
    return {row["arm"]: row["score"]["successes"] for row in rows if row["suite"] is None}


@pytest.mark.libero
def test_it_solves_tasks_while_quantized(tmp_path: Path):
    # Of 5 episodes 5, measured on 2026-11-30. Other processors round otherwise.
    assert play(tmp_path / "run", "w4a8", trials=1)["w4a8"] >= 3


@pytest.mark.libero
@pytest.mark.slow
def test_it_solves_tasks_that_it_reads_and_sees_while_quantized(tmp_path: Path):
    successes = play(tmp_path / "run", "w4a8,grey", trials=2)
    # Of 10 episodes each: 10 and 0, measured on 2026-11-23. Other processors round otherwise.
    assert successes["w4a8"] >= 7
    assert successes["grey"] <= 2
