"""How a process gets AMX's tiles, and what it does without: refusals that only the hardware can show.

Each in a process of its own, since the permission is asked for once. Oracle: Linux, made to refuse by a
seccomp filter, or by an alternate signal stack of 8 KB.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CPUINFO = Path("/proc/cpuinfo")

REFUSED_BY_A_SANDBOX = """
class Filter(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint16), ("jumps", ctypes.c_uint8 * 2), ("k", ctypes.c_uint32)]

class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_uint16), ("filters", ctypes.POINTER(Filter))]

LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
filters = (Filter * 6)(
    Filter(LOAD, (0, 0), 0),  # the number of the call: 158 is arch_prctl
    Filter(EQUAL, (0, 3), 158),
    Filter(LOAD, (0, 0), 16),  # its first argument: ARCH_REQ_XCOMP_PERM
    Filter(EQUAL, (0, 1), 0x1023),
    Filter(RETURN, (0, 0), 0x00050000 | errno.EPERM),
    Filter(RETURN, (0, 0), 0x7FFF0000),
)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(Program(6, filters)), 0, 0) == 0
assert libc.syscall(158, 0x1023, 18) == -1 and ctypes.get_errno() == errno.EPERM
"""

REFUSED_FOR_A_SMALL_STACK = """
class Stack(ctypes.Structure):
    _fields_ = [("pointer", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]

memory = ctypes.create_string_buffer(8192)
assert libc.sigaltstack(ctypes.byref(Stack(ctypes.addressof(memory), 0, 8192)), None) == 0
"""

LOADED = """
import json, logging, os
messages = []
handler = logging.Handler()
handler.emit = lambda record: messages.append(record.getMessage())
logging.getLogger().addHandler(handler)
from gr00t.quantization.kernels import library
library.load(os.environ)
print(json.dumps({"loaded": library.supported(), "why_not": library.why_not(), "messages": messages}))
"""


def loaded_after(first: str) -> dict[str, object]:
    """What a process has that does `first` before it loads the kernels."""
    program = f"import ctypes, errno\nlibc = ctypes.CDLL(None, use_errno=True)\n{first}{LOADED}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def with_amx(native_kernels) -> list[str]:
    """Names of the kernels on this machine, AMX's first."""
    if not CPUINFO.exists() or "amx_int8" not in CPUINFO.read_text():
        pytest.skip("needs a processor with AMX")
    if not native_kernels:
        pytest.skip("no compiled kernels; install a C++ compiler")
    names = loaded_after("")
    if str(names["why_not"]).startswith("amx_int8: "):
        pytest.skip(f"needs a process that may use AMX; {names['why_not']}")
    assert names["loaded"][0] == "amx_int8", names
    return names["loaded"]


@pytest.mark.parametrize(
    ("first", "why"),
    [
        (REFUSED_BY_A_SANDBOX, "a sandbox forbids to ask for AMX (arch_prctl: EPERM)"),
        (
            REFUSED_FOR_A_SMALL_STACK,
            "an alternate signal stack is too small for AMX's registers (arch_prctl: ENOSPC)",
        ),
    ],
    ids=["sandbox", "small stack"],
)
def test_refused_it_is_said_once_and_the_next_kernel_takes_over(first, why, with_amx):
    found = loaded_after(first)
    assert found["loaded"] == with_amx[1:]
    assert found["why_not"] == f"amx_int8: {why}"
    assert found["messages"] == [f"[GR00T-DUQUANT] The CPU kernel amx_int8 is not used: {why}"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_where_the_processor_shows_no_amx_nothing_is_asked_or_said(native_kernels):
    if CPUINFO.exists() and "amx_int8" in CPUINFO.read_text():
        pytest.skip("needs a processor without AMX")
    if not native_kernels:
        pytest.skip("no compiled kernels; install a C++ compiler")
    found = loaded_after(REFUSED_BY_A_SANDBOX)
    assert "amx_int8" not in found["loaded"]
    assert (found["why_not"], found["messages"]) == ("", [])
