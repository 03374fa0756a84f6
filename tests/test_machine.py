"""Oracles: the system's own words, and the modules of a process that only asked where it is."""

from __future__ import annotations

import datetime
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from gr00t.machine import describe_host, describe_processor
from tests.shell import REPO, shell


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


def test_a_processor_is_described_by_name_and_instruction_sets() -> None:
    told = describe_processor()
    flags = Path("/proc/cpuinfo").read_text()
    name, _, sets = told.rpartition(", with ")
    assert name in flags or name == platform.machine()
    assert ("avx2" in sets.split()) is (" avx2 " in flags)
    assert set(sets.split()) <= set(flags.split()) or sets.startswith("none of ")


def test_the_tests_tell_the_processor_first_and_their_closing_line_last(tmp_path: Path) -> None:
    """With a python that only writes down what it is asked to do."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(REPO / "run_tests.sh", tmp_path)
    shutil.copy(REPO / "scripts" / "common.sh", tmp_path / "scripts")
    for path, text in (
        (".venv/bin/python", '#!/bin/bash\ncase "$*" in *describe*) echo CPU ;; *) echo "ran $*" ;; esac\n'),
        ("scripts/setup_env.sh", "#!/bin/bash\n"),
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
        (tmp_path / path).chmod(0o755)
    lines = shell("./run_tests.sh -k wire", cwd=tmp_path).stdout.splitlines()
    assert lines[0] == "CPU"
    beside = min(len(os.sched_getaffinity(0)), 4)
    assert lines[-1] == (
        f"ran -m pytest -q -p no:cacheprovider -n {beside} --dist loadfile --durations=20 -k wire"
    )
