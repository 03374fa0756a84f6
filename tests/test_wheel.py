"""What `pip install .` leaves behind, without a checkout. Oracles: the tree, and what a checkout answers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import gr00t
from tests.shell import REPO
from tests.test_structure import tracked_files

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
COMMANDS = (
    *("serve", "evaluate", "calibrate", "export", "inspect"),
    *("train", "doctor", "compare", "scan", "drift", "allocate", "vla-eval"),
)
# What a module reads that lies beside it. A caller that builds finds the C++ of today, under whatever names.
NO_CODE = {".css", ".j2", ".npz", ".json", ".toml", ".cpp", ".hpp"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: building leaves files among the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    for part in ("gr00t", "examples"):
        no_code = shutil.ignore_patterns("__pycache__", "*.safetensors")
        shutil.copytree(REPO / part, folder / "source" / part, symlinks=True, ignore=no_code)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPO / name, folder / "source")
    build = ["wheel", str(folder / "source"), "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([*PIP, *build], check=True, cwd=folder)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """The folder that the wheel is installed into; nothing else is there."""
    target = wheel.parent / "installed"
    subprocess.run([*PIP, "install", "--no-deps", "--target", str(target), str(wheel)], check=True)
    return target


def run(installed: Path, *command: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the installation in a folder that is no checkout."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("GR00T_")}
    return subprocess.run(
        list(map(str, command)),
        cwd=installed.parent,
        env={**kept, "PYTHONPATH": str(installed), "HF_HUB_OFFLINE": "1", **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert wheel.name == f"gr00t_duquant-{gr00t.__version__}-py3-none-any.whl"
    assert {name.split("/")[0] for name in names} == {"gr00t", f"gr00t_duquant-{gr00t.__version__}.dist-info"}
    expected = {
        str(path)
        for path in tracked_files()
        if path.parts[0] == "gr00t" and (path.suffix == ".py" or path.suffix in NO_CODE)
    }
    expected |= {
        f"gr00t/{path}"
        for path in tracked_files()
        if path.parts[0] == "examples"
        and "demo_policy" not in path.parts
        and path.suffix in {".py", *NO_CODE}
    }
    assert {name for name in names if ".dist-info/" not in name} == expected
    # A few by name: should the rule above see nothing, these are missed.
    for name in (
        "eval/report/page.css",
        "libero/settled/resting_poses.npz",
        "examples/Libero/recipes/w4a8.toml",
    ):
        assert f"gr00t/{name}" in expected


def test_every_command_is_installed_and_says_its_own_name(installed: Path) -> None:
    assert {path.name for path in (installed / "bin").iterdir()} == {f"gr00t-{name}" for name in COMMANDS}
    told = run(installed, installed / "bin" / "gr00t-scan", "--help")
    assert told.stdout.startswith("usage: gr00t-scan [-h]"), told.stderr


def test_layers_are_listed_and_a_server_is_tried_out_of_any_checkout(installed: Path) -> None:
    scanned = run(installed, installed / "bin" / "gr00t-scan")
    assert scanned.returncode == 0, scanned.stderr
    assert scanned.stdout.splitlines()[-1].startswith("387 Linear layers, 116 quantized")
    tried = run(installed, sys.executable, "-m", "gr00t.cli.serve", "--server", GR00T_DUQUANT_DRYRUN="1")
    assert tried.returncode == 0, tried.stderr
    assert tried.stderr.splitlines()[-1] == "[GR00T-DUQUANT] Dry-run total layers listed: 116"


# No checkout is to be found, neither on the path nor by an editable installation.
FINDS = """
import os, pathlib, sys
sys.path[:] = [part for part in sys.path if not pathlib.Path(part, "examples", "Libero").is_dir()]
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
import gr00t
from gr00t.eval.arms.recipes import find_recipes, load_recipe
from gr00t.experiment.data_config import load_data_config
from gr00t.files.shipped import LIBERO_MODALITY, RECIPES
print(gr00t.__file__, load_recipe(find_recipes(RECIPES)["w4a8"]).name, LIBERO_MODALITY.is_file())
for folder in (".", "with_examples"):
    os.chdir(folder)
    print(type(load_data_config("examples.Libero.custom_data_config:LiberoDataConfig")).__module__)
load_data_config("examples.Libero.custom_data_confg:LiberoDataConfig")
"""


def test_recipes_and_data_configurations_are_found_by_their_names(installed: Path) -> None:
    """Also where the current folder has examples of its own, as many a robot's repository has."""
    own = installed.parent / "with_examples" / "examples"
    own.mkdir(parents=True)
    (own / "own.py").touch()
    found = run(installed, sys.executable, "-c", FINDS)
    module = "gr00t.examples.Libero.custom_data_config"
    told = f"{installed / 'gr00t' / '__init__.py'} w4a8 True\n{module}\n{module}\n"
    assert found.stdout == told, found.stderr
    assert f"did you mean {module}?" in found.stderr
