"""Each command works for a user without name and home, or says in one line what is missing and what helps.

Oracle: what a person reads: one line on stderr that names the variable, and no traceback.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.foreign_user import foreign_user
from tests.shell import REPO

# HOME as containers have it. /proc and a file are places that nobody can make folders in.
HOMES = {"none": None, "nonexistent": "/proc/nonexistent", "a file": "/etc/passwd", "read-only": "/proc"}
QUICK = (
    "scripts/libero_doctor.py --help",
    "scripts/evaluate.py --help",
    "scripts/inspect_checkpoint.py examples/Libero/demo_policy",
)


def run(
    command: list[str], home: str | None, cwd: Path = REPO, timeout: float = 150, **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run as a foreign user with as few variables as a container has."""
    clean = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [*foreign_user(), *command],
        cwd=cwd,
        env={**clean, **({} if home is None else {"HOME": home}), **environ},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter and write; pytest's own are for their owner alone."""
    with tempfile.TemporaryDirectory(prefix="foreign-") as name:
        Path(name).chmod(0o777)
        yield Path(name)


@pytest.mark.parametrize("command", QUICK)
def test_what_writes_nothing_works(command: str) -> None:
    done = run([sys.executable, *shlex.split(command)], None)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


KERNELS = """
import logging, os
logging.basicConfig(format="%(message)s")
from gr00t.quantization.kernels import library
print(*library.load(os.environ))
"""


@pytest.mark.parametrize("home", HOMES.values(), ids=HOMES)
def test_kernels_are_compiled_for_the_process_or_said_to_be_missing(
    home: str | None, open_folder: Path
) -> None:
    """Without a cache, by a compiler that fails: nothing is left, and one line for each says why."""
    compiler = open_folder / "c++"
    compiler.write_text("#!/bin/sh\n[ $1 = --version ] && exit 0\necho error: full >&2\nexit 1\n")
    compiler.chmod(0o755)
    done = run([sys.executable, "-c", KERNELS], home, CXX=str(compiler), TMPDIR=str(open_folder))
    assert (done.returncode, done.stdout) == (0, "\n"), done.stderr
    told, reason = done.stderr.splitlines()
    assert told.startswith("[GR00T-DUQUANT] CPU kernels are compiled for this process alone: ")
    assert "set XDG_CACHE_HOME to a folder" in told
    assert reason.endswith("c++ failed: error: full; PyTorch's operations instead")
    assert [*open_folder.iterdir()] == [compiler]


SIMULATOR = """
import os, sys
from pathlib import Path
from gr00t.libero.assets.location import resolve_assets
from gr00t.libero.simulator.environ import simulator_environ
from gr00t.libero.tasks.suites import find_suite
try:
    resolve_assets(find_suite("object"), package=Path("nowhere"), environ=os.environ, choice="stand-ins")
    simulator_environ(os.environ, backend="osmesa", package=Path("nowhere"))
except OSError as error:
    sys.exit(f"error: {error}")
"""


@pytest.mark.parametrize("home", HOMES.values(), ids=HOMES)
def test_the_simulator_names_the_variable_and_works_with_it(home: str | None, tmp_path: Path) -> None:
    pytest.importorskip("pydantic")
    done = run([sys.executable, "-c", SIMULATOR], home)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: ")
    assert "set XDG_CACHE_HOME to a folder" in done.stderr
    tmp_path.chmod(0o777)
    done = run([sys.executable, "-c", SIMULATOR], home, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("option", ["--output", "-- --output"])
def test_results_that_cannot_be_written_name_the_option(tmp_path: Path, option: str) -> None:
    tmp_path.chmod(0o555)
    program = (
        "import pathlib, sys; from gr00t.files.output_folder import unused_folder\n"
        f"with unused_folder(pathlib.Path('runs/new'), '{option}'): pass"
    )
    done = run([sys.executable, "-c", program, str(REPO / "scripts")], None, cwd=tmp_path)
    said = done.stderr.splitlines()[-1]
    assert f"no results can be written to {tmp_path}/runs/new (Permission denied)" in said
    assert said.endswith(f"name another folder: {option} FOLDER")


def test_no_place_for_temporary_files_names_the_variable() -> None:
    """The folders that every system has cannot be taken away from here: the rule alone is tried."""
    text = (REPO / "scripts" / "setup_env.sh").read_text()
    rule = re.search(r"^has_temporary_folder\(\) \{.*?^\}", text, re.MULTILINE | re.DOTALL)[0]
    for folder in ("/tmp", "/var/tmp", "/usr/tmp"):
        rule = rule.replace(f" {folder}", "")
    command = f"root=/proc; {rule}; has_temporary_folder"
    assert run(["bash", "-c", command], None).returncode == 1
    assert run(["bash", "-c", command], None, TMPDIR="/proc", TMP="/nowhere").returncode == 1
    assert run(["bash", "-c", command], None, TMPDIR="/proc", TMP="/dev/shm").returncode == 0
    assert "no folder for temporary files can be written; set TMPDIR to one that can" in text


def test_a_set_up_that_cannot_be_written_says_so_in_one_line(tmp_path: Path) -> None:
    """What is there is used; what is missing names the command for its owner."""
    for part in ("scripts/setup_env.sh", "scripts/requirements/pins.txt", "pyproject.toml"):
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / part).write_bytes((REPO / part).read_bytes())
    (tmp_path / ".venv").mkdir(mode=0o555)
    tmp_path.chmod(0o555)
    done = run(["bash", "scripts/setup_env.sh", "core"], None, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        f"[set-up] error: core not installed as pinned, and {tmp_path}/.venv cannot be written; "
        "as its owner run: scripts/setup_env.sh core\n"
    )
