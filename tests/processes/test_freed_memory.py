"""Oracle: the page faults that the system counts for a process that takes and frees 64 MB ten times."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from gr00t.processes import freed_memory
from gr00t.processes.freed_memory import keep_freed_memory, return_freed_memory, use_huge_pages
from tests.shell import REPO

_PAGES = (64 << 20) // 4096
_PROGRAM = """
import resource, sys
from gr00t.processes.freed_memory import keep_freed_memory
assert sys.argv[1] == "given back" or keep_freed_memory()
block = b"x" * (64 << 20); del block
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    block = b"x" * (64 << 20); del block
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, how], cwd=REPO, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="the C library is not glibc"
)
def test_what_is_freed_is_taken_again_without_the_system() -> None:
    assert faults("kept") < _PAGES // 10
    # Ten times every page; huge pages that the system gives unasked take 512 at once.
    assert faults("given back") >= 10 * _PAGES // 512


def test_another_c_library_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(freed_memory.ctypes, "CDLL", lambda _: object())
    with caplog.at_level("DEBUG"):
        assert not keep_freed_memory()
    assert "The allocator stays as it is: the C library is not glibc" in caplog.text


class OldGlibc:
    """As glibc was: no block that is larger than half of a heap can be made to come from one."""

    largest = 1 << 25

    def __init__(self) -> None:
        self.options: dict[int, int] = {}

    def gnu_get_libc_version(self) -> bytes:
        return b"2.31"

    def mallopt(self, option: int, value: int) -> int:
        if option == -3 and value > self.largest:
            return 0
        self.options[option] = value
        return 1


def test_an_older_glibc_is_given_the_most_that_it_takes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    libc = OldGlibc()
    monkeypatch.setattr(freed_memory.ctypes, "CDLL", lambda _: libc)
    assert return_freed_memory()
    assert libc.options == {-3: 1 << 17}
    assert keep_freed_memory()
    assert libc.options == {-3: 1 << 25, -1: -1}
    assert not caplog.records


def test_what_is_refused_is_said_once_and_the_rest_is_set(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    libc = OldGlibc()
    libc.largest = 0
    monkeypatch.setattr(freed_memory.ctypes, "CDLL", lambda _: libc)
    freed_memory._warn_once.cache_clear()
    assert not keep_freed_memory()
    assert not keep_freed_memory()
    assert libc.options == {-1: -1}
    assert [record.getMessage() for record in caplog.records] == [
        "The C library refuses mallopt(-3, 1073741824 or 33554432): requests may take longer, or more memory"
    ]


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="the C library is not glibc"
)
def test_while_a_model_is_loaded_what_is_freed_is_given_back() -> None:
    """Blocks of 1 MB that a thread takes, of which every second one is freed; 32 of 64 MB remain."""
    program = """
import sys, threading
from gr00t.processes.freed_memory import return_freed_memory
block = b"x" * (30 << 20); del block  # from now on glibc takes smaller blocks from the heap
assert sys.argv[1] == "left alone" or return_freed_memory()
resident = lambda: int(open("/proc/self/statm").read().split()[1]) * 4096
kept = []
def take():
    kept.extend([b"x" * (1 << 20) for _ in range(64)])
before = resident()
thread = threading.Thread(target=take); thread.start(); thread.join()
del kept[::2]
print((resident() - before) >> 20)
"""

    def megabytes(how: str) -> int:
        command = [sys.executable, "-c", program, how]
        return int(subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=True).stdout)

    assert megabytes("returned") == pytest.approx(32, abs=3)
    assert megabytes("left alone") > 50


def test_who_decides_about_huge_pages_is_heeded() -> None:
    environ: dict[str, str] = {}
    use_huge_pages(environ)
    assert environ == {"THP_MEM_ALLOC_ENABLE": "1"}
    environ = {"THP_MEM_ALLOC_ENABLE": "0"}
    use_huge_pages(environ)
    assert environ == {"THP_MEM_ALLOC_ENABLE": "0"}
