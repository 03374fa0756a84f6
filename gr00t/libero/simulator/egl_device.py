"""Which device draws, where EGL does: robosuite and MuJoCo each read the variables in a way of their own.

Robosuite takes CUDA_VISIBLE_DEVICES for the index of an EGL device: what is empty, negative, beyond the last
one or a UUID ends it. With MUJOCO_EGL_DEVICE_ID set besides, it asserts that the one holds the other; without
either it tries the first device alone, which in a container often is one that may not be used. So the
simulator's process gets no CUDA_VISIBLE_DEVICES, of which it has no use, and a device that can be drawn with.
"""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence

from gr00t.libero.tasks.suites import LiberoError

CUDA, EGL = "CUDA_VISIBLE_DEVICES", "MUJOCO_EGL_DEVICE_ID"
_PROBE_SECONDS = 60.0

# In a process of its own: a driver may crash.
_PROBE = """
from ctypes import *
egl = CDLL("libEGL.so.1")
egl.eglGetProcAddress.restype, egl.eglGetProcAddress.argtypes = c_void_p, [c_char_p]
query = CFUNCTYPE(c_uint, c_int, c_void_p, c_void_p)(egl.eglGetProcAddress(b"eglQueryDevicesEXT"))
platform = egl.eglGetProcAddress(b"eglGetPlatformDisplayEXT")
display_of = CFUNCTYPE(c_void_p, c_uint, c_void_p, c_void_p)(platform)
egl.eglInitialize.argtypes = [c_void_p, c_void_p, c_void_p]
devices, count = (c_void_p * 256)(), c_int()
query(256, devices, byref(count))
for index in range(count.value):
    display = display_of(0x313F, devices[index], None)
    if display and egl.eglInitialize(display, None, None):
        print(index, flush=True)
"""


@functools.lru_cache(maxsize=1)
def usable_devices() -> tuple[int, ...]:
    """Return the indices of the EGL devices of this machine that can be drawn with; none where EGL fails."""
    try:
        probe = subprocess.run(
            [sys.executable, "-I", "-c", _PROBE], capture_output=True, timeout=_PROBE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return ()
    return tuple(int(line) for line in probe.stdout.split())


def drawing_environ(
    environ: Mapping[str, str], backend: str, devices: Sequence[int] | None = None
) -> dict[str, str]:
    """Return `environ` for a process that draws with `backend`.

    The device is the one that MUJOCO_EGL_DEVICE_ID names, else the first number of CUDA_VISIBLE_DEVICES where
    such a device is usable, as robosuite would have it, else the first usable one.

    Args:
        devices: the usable ones; found on this machine where none are given and EGL draws.

    Raises:
        LiberoError: MUJOCO_EGL_DEVICE_ID names no usable device.
    """
    child = {name: value for name, value in environ.items() if name not in (CUDA, EGL)}
    if backend != "egl":
        return child
    usable = usable_devices() if devices is None else devices
    named = environ.get(EGL, "").strip()
    if named:
        if not re.fullmatch("[0-9]+", named) or (usable and int(named) not in usable):
            raise LiberoError(f"{EGL}={named!r}: expected the number of an EGL device, here {_told(usable)}")
        return {**child, EGL: str(int(named))}
    visible = re.match(r"\s*([0-9]+)\s*(,|$)", environ.get(CUDA, ""))
    if visible and int(visible[1]) in usable:
        return {**child, EGL: str(int(visible[1]))}
    return {**child, EGL: str(usable[0])} if usable else child


def _told(usable: Sequence[int]) -> str:
    return "one of " + ", ".join(map(str, usable)) if usable else "0 or more"
