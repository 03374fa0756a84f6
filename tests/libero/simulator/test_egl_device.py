"""Oracles: a table of what the variables say, and robosuite's own code, which must find a display."""

from __future__ import annotations

import ctypes.util
import itertools
import json
import os
import subprocess
import sys

import pytest

from gr00t.libero.simulator.egl_device import CUDA, EGL, drawing_environ, usable_devices
from gr00t.libero.tasks.suites import LiberoError

UUID = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
VISIBLE = (
    None,
    "",
    " ",
    "-1",
    "7",
    "0",
    "1",
    "0,1",
    "1,0",
    "0, 1",
    UUID,
    f"{UUID},{UUID}",
    "MIG-" + UUID[4:],
)


def variables(visible: str | None, device: str | None) -> dict[str, str]:
    return {name: value for name, value in ((CUDA, visible), (EGL, device)) if value is not None}


@pytest.mark.parametrize(
    ("visible", "chosen"),
    [(value, "1" if value in ("1", "1,0") else "0") for value in VISIBLE],
)
def test_the_device_is_the_first_visible_one_or_one_that_works(visible, chosen):
    environ = {**variables(visible, None), "OTHER": "kept"}
    assert drawing_environ(environ, "egl", (0, 1)) == {"OTHER": "kept", EGL: chosen}
    assert drawing_environ(environ, "egl", (3,)) == {"OTHER": "kept", EGL: "3"}
    assert drawing_environ(environ, "egl", ()) == {"OTHER": "kept"}
    assert drawing_environ(environ, "osmesa") == {"OTHER": "kept"}


@pytest.mark.parametrize("visible", VISIBLE)
def test_a_device_that_is_named_wins_whatever_cuda_sees(visible):
    assert drawing_environ(variables(visible, "1"), "egl", (0, 1)) == {EGL: "1"}
    assert drawing_environ(variables(visible, " 1 "), "egl", (0, 1)) == {EGL: "1"}
    assert drawing_environ(variables(visible, ""), "egl", (2,)) == {EGL: "2"}
    assert drawing_environ(variables(visible, "x"), "osmesa") == {}


@pytest.mark.parametrize("named", ["2", "-1", "x", "0,1", "²", UUID])
def test_a_device_that_is_none_is_refused_with_those_there_are(named):
    with pytest.raises(LiberoError) as caught:
        drawing_environ({EGL: named}, "egl", (0, 1))
    assert str(caught.value) == f"{EGL}={named!r}: expected the number of an EGL device, here one of 0, 1"


PROGRAM = """
import importlib, json, os, sys
import robosuite
from robosuite.renderers.context import egl_context
from robosuite.utils import binding_utils
found = []
for environ in json.load(sys.stdin):
    for name in ("CUDA_VISIBLE_DEVICES", "MUJOCO_EGL_DEVICE_ID"):
        os.environ.pop(name, None)
    os.environ.update(environ)
    try:
        importlib.reload(binding_utils)
        display = egl_context.create_initialized_egl_device_display(-1)
        found.append("display" if display else "none")
    except Exception as error:  # noqa: BLE001
        found.append(type(error).__name__)
print(json.dumps(found))
"""


@pytest.mark.libero
def test_robosuite_finds_a_display_for_all_of_them(tmp_path):
    if ctypes.util.find_library("EGL") is None or not usable_devices():
        pytest.skip("no EGL device; run: apt-get install -y libegl1 libegl-mesa0 libgl1-mesa-dri")
    given = [variables(*pair) for pair in itertools.product(VISIBLE, (None, "", str(usable_devices()[0])))]

    def robosuite_finds(environs: list[dict[str, str]]) -> list[str]:
        run = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            input=json.dumps(environs),
            env={**os.environ, "MUJOCO_GL": "egl", "PYOPENGL_PLATFORM": "egl", "TMPDIR": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        found: list[str] = json.loads(run.stdout.splitlines()[-1])
        return found

    assert robosuite_finds([drawing_environ(environ, "egl") for environ in given]) == ["display"] * len(given)
    assert "ValueError" in robosuite_finds(given)  # what the variables do as they are
