"""Two processes and one file. Oracle: the second one is told that the first has it, until it is closed."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gr00t.files.locks import lock

_OTHER = "import os, sys; from gr00t.files.locks import lock; print(lock(os.open(sys.argv[1], os.O_RDONLY)))"


def _others(path: Path) -> str:
    return subprocess.run(
        [sys.executable, "-c", _OTHER, path], capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_one_process_has_it_at_a_time(tmp_path: Path, kind: str) -> None:
    path = tmp_path
    if kind == "file":
        path = tmp_path / "a"
        path.touch()
    handle = os.open(path, os.O_RDONLY)
    assert lock(handle) is True
    assert _others(path) == "False"
    os.close(handle)
    assert _others(path) == "True"


def test_a_file_system_without_locks_is_not_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(handle: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", refuse)
    code = errno.ENOLCK
    assert lock(0) is None
    code = errno.EIO
    with pytest.raises(OSError, match="Input/output error"):
        lock(0)
