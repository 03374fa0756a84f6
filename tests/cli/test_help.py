"""What asking a command for help costs and says. Oracles: the dataclass of its flags, and sys.modules."""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import gr00t
from gr00t.cli.checks.needed import check_installed, how_to_install
from gr00t.cli.errors import UsageError
from tests.shell import REPO

tomllib: Any = pytest.importorskip("tomllib", reason="needs Python 3.11 or newer")

INSTALLED = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["scripts"]
OTHERS = (
    "open_loop",
    "checkpoints.merge_adapter",
    "checkpoints.make_demo_checkpoint",
    "training.finetune",
)
MODULES = [entry.partition(":")[0] for entry in INSTALLED.values()] + [f"gr00t.cli.{name}" for name in OTHERS]
# Seconds to import, the one or the other. numpy takes a tenth of one.
HEAVY = {
    "torch",
    "transformers",
    "huggingface_hub",
    "safetensors",
    "matplotlib",
    "mujoco",
    "robosuite",
    "ray",
}
LESS_HEAVY = {"numpy", "scipy", "pydantic", "zmq", "msgpack", "tqdm", "PIL", "av", "pyarrow"}
# What no command may need to start: it comes with the optional groups of pyproject.toml.
OPTIONAL = ("av", "scipy", "matplotlib", "pyarrow", "PIL", "peft", "tensorboardX", "h11", "ray", "triton")
OPTIONAL += ("websockets", "vla_eval")
SIMULATOR = (
    "mujoco",
    "robosuite",
    "libero",
    "bddl",
    "numba",
    "cv2",
    "imageio",
    "jinja2",
    "gymnasium",
    "yaml",
)
FLAGS = {
    "gr00t.cli.serve": ("gr00t.cli.serving.arguments", "ServeArguments"),
    "gr00t.cli.evaluate": ("gr00t.eval.session.options", "EvaluationOptions"),
    "gr00t.cli.calibrate": ("gr00t.cli.calibration.arguments", "CalibrateArguments"),
    "gr00t.cli.allocate": ("gr00t.cli.allocation.arguments", "AllocateArguments"),
    "gr00t.cli.export": ("gr00t.cli.export", "ExportArguments"),
    "gr00t.cli.inspect": ("gr00t.cli.inspect", "InspectArguments"),
    "gr00t.cli.train": ("gr00t.cli.training.arguments", "TrainArguments"),
    "gr00t.cli.training.finetune": ("gr00t.cli.training.arguments", "FinetuneArguments"),
    "gr00t.cli.compare": ("gr00t.cli.compare", "CompareArguments"),
    "gr00t.cli.scan": ("gr00t.cli.scan", "ScanArguments"),
    "gr00t.cli.harnesses.vla_eval": ("gr00t.cli.harnesses.vla_eval", "VlaEvalArguments"),
    "gr00t.cli.drift": ("gr00t.cli.gate.arguments", "DriftArguments"),
    "gr00t.cli.open_loop": ("gr00t.cli.prediction.arguments", "OpenLoopArguments"),
    "gr00t.cli.checkpoints.merge_adapter": ("gr00t.cli.checkpoints.merge_adapter", "MergeArguments"),
    "gr00t.cli.checkpoints.make_demo_checkpoint": (
        "gr00t.cli.checkpoints.make_demo_checkpoint",
        "MakeDemoCheckpointArguments",
    ),
}
ASK = """
import importlib, json, sys
module = importlib.import_module(sys.argv[1])
sys.argv[1:] = ["--help"]
try:
    module.main()
finally:
    print("\\n" + json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def examples(description: str) -> list[str]:
    """The lines that are commands."""
    starts = re.compile(r"([A-Z0-9_]+=\S+ )*(python|torchrun|gr00t-\w+) ")
    return [line.strip() for line in description.splitlines() if starts.match(line.strip())]


@pytest.mark.parametrize("module", MODULES)
def test_help_imports_nothing_heavy_and_says_every_flag(module: str) -> None:
    asked = subprocess.run(
        [sys.executable, "-c", ASK, module], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert asked.returncode == 0, asked.stderr
    told, _, imported = asked.stdout.rstrip("\n").rpartition("\n")
    assert (HEAVY | LESS_HEAVY) & set(json.loads(imported)) == set()
    assert told.startswith("usage: ")
    described = importlib.import_module(module).__doc__ or ""
    assert [line for line in examples(described) if f"\n    {line}\n" not in told] == []
    assert described.splitlines()[0] in told
    where, kind = FLAGS.get(module, (None, None))
    if where is None or kind is None:
        assert module == "gr00t.cli.doctor"
        assert "--settle SUITE" in told
        return
    fields = [field.name for field in dataclasses.fields(getattr(importlib.import_module(where), kind))]
    positional = {"config", "folder", "folders", "checkpoint", "out", "adapter"}
    missing = [
        name for name in fields if f"--{name.replace('_', '-')}" not in told and name not in positional
    ]
    assert missing == [] or (module, missing) == ("gr00t.cli.scan", ["dry_run"])  # told as --dryrun


def without_options(module: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command where nothing can be imported but what `pip install .` installs."""
    code = f"""
import importlib, sys
sys.modules.update(dict.fromkeys({(*OPTIONAL, *SIMULATOR)}))
module = importlib.import_module(sys.argv.pop(1))
sys.exit(module.main())
"""
    command = [sys.executable, "-c", code, module, *words]
    return subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("module", MODULES)
def test_help_needs_no_optional_package(module: str) -> None:
    asked = without_options(module, "--help")
    assert (asked.returncode, asked.stderr) == (0, "")
    assert asked.stdout.startswith("usage: ")


@pytest.mark.parametrize(
    ("module", "words", "told"),
    [
        ("train", [], "av, pyarrow not installed; run: scripts/setup_env.sh train"),
        ("training.finetune", [], "av, pyarrow not installed; run: scripts/setup_env.sh train"),
        ("compare", ["runs"], "scipy not installed; run: scripts/setup_env.sh libero"),
        (
            "compare",
            ["runs", "--html", "o.html"],
            "scipy, matplotlib, jinja2 not installed; run: scripts/setup_env.sh libero",
        ),
        (
            "open_loop",
            ["--dataset-path", "tests"],
            "av, pyarrow not installed; run: scripts/setup_env.sh train",
        ),
    ],
)
def test_what_is_missing_is_said_in_one_line(module: str, words: list[str], told: str) -> None:
    asked = without_options(f"gr00t.cli.{module}", *words)
    assert (asked.returncode, asked.stdout, asked.stderr) == (2, "", f"error: {told}\n")


def test_a_wheel_names_what_it_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Oracle: a wheel has no scripts/; its metadata have the groups."""
    assert how_to_install("core", "train") == "scripts/setup_env.sh core train"
    monkeypatch.setattr(gr00t, "__file__", str(tmp_path / "gr00t" / "__init__.py"))
    assert how_to_install("core", "train") == "pip install 'gr00t-duquant[train]'"
    with pytest.raises(
        UsageError, match=r"^nowhere not installed; run: pip install 'gr00t-duquant\[libero\]'$"
    ):
        check_installed(["json", "nowhere"], "libero")


def test_every_command_that_is_installed_is_a_script_of_a_checkout() -> None:
    scripts = {path.name: path.read_text() for path in (REPO / "scripts").glob("*.py")}
    for name, entry in INSTALLED.items():
        module, _, function = entry.partition(":")
        assert function == "main"
        at_least = [script for script, text in scripts.items() if f"from {module} import main" in text]
        if name != "gr00t-inspect":  # two scripts, one for each kind of folder
            assert len(at_least) == 1, name


def test_a_script_is_a_docstring_and_two_lines() -> None:
    for path in (REPO / "scripts").glob("*.py"):
        code = [
            line
            for line in path.read_text().splitlines()
            if line.strip() and not line.startswith(('"""', "if __name__"))
        ]
        assert len(code) == 2 or path.name == "update_variables.py", path.name
