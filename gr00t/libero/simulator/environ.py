"""The environment variables of a simulator's process, and the library that it draws with."""

from __future__ import annotations

import ctypes.util
import hashlib
import importlib.util
import json
import os
from collections.abc import Mapping
from pathlib import Path

from gr00t.files.cached_folder import put_file
from gr00t.files.private_folder import private_folder
from gr00t.libero.simulator.egl_device import drawing_environ
from gr00t.libero.tasks.suites import LiberoError
from gr00t.spelling import did_you_mean

# Library to look for, and the Debian packages that bring it.
_BACKENDS = {
    "osmesa": ("OSMesa", "libosmesa6"),
    "egl": ("EGL", "libegl1 libegl-mesa0 libgl1-mesa-dri"),
}


class SimulatorStartError(LiberoError):
    """The simulator cannot run on this machine at all."""


def choose_backend(requested: str, environ: Mapping[str, str]) -> str:
    """The GL library to draw with: `requested`, else MUJOCO_GL where it works without a screen, else osmesa.

    Raises:
        LiberoError: for an unknown name.
        SimulatorStartError: if the library is not installed, with the command that installs it.
    """
    name = requested if requested != "auto" else environ.get("MUJOCO_GL", "").lower()
    if requested == "auto" and name not in _BACKENDS:
        name = "osmesa"
    if name not in _BACKENDS:
        raise LiberoError(f"unknown GL backend {name!r}: {did_you_mean(name, _BACKENDS)}")
    library, packages = _BACKENDS[name]
    if ctypes.util.find_library(library) is None:
        raise SimulatorStartError(f"lib{library} is missing; run: apt-get install -y {packages}")
    return name


def simulator_environ(
    environ: Mapping[str, str], *, backend: str, package: Path, assets: Path | None = None
) -> dict[str, str]:
    """`environ` plus what a process needs before it imports mujoco, robosuite and LIBERO.

    LIBERO asks on stdin for its folders unless a configuration file names them: one is written into our
    cache, so that no file of the user is read or changed.

    Args:
        environ: The variables to start from; not changed.
        backend: `osmesa` or `egl`.
        package: Folder of the installed `libero.libero`.
        assets: Folder of meshes and textures, for a fork that reads of it there; hf-libero does not.

    Raises:
        LiberoError: MUJOCO_EGL_DEVICE_ID names no device that can be drawn with.
        CacheError: the cache cannot be written, or is somebody else's.
    """
    meshes = package / "assets" if assets is None else assets
    key = hashlib.sha256(f"{package}\0{meshes}".encode()).hexdigest()[:12]
    config = private_folder(environ, "libero", f"config-{key}", is_verified=True)
    folders = {
        "assets": str(meshes),
        "bddl_files": "bddl_files",
        "benchmark_root": ".",
        "datasets": "../datasets",
        "init_states": "init_files",
    }
    # A JSON string is a YAML string, whatever characters the path holds.
    text = "".join(f"{key}: {json.dumps(str(package / folder))}\n" for key, folder in folders.items())
    put_file(config / "config.yaml", text.encode())
    root = str(Path(__file__).resolve().parents[3])
    path = os.pathsep.join(part for part in (root, environ.get("PYTHONPATH", "")) if part)
    return {
        **drawing_environ(environ, backend),
        **numba_environ(environ),
        "MUJOCO_GL": backend,
        "PYOPENGL_PLATFORM": backend,
        "LIBERO_CONFIG_PATH": str(config),
        "MPLCONFIGDIR": environ.get("MPLCONFIGDIR") or str(private_folder(environ, "libero", "matplotlib")),
        "PYTHONPATH": path,
    }


def numba_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """The variable that says where numba keeps what it compiles of robosuite, where one is needed.

    It keeps pickles, which are run when they are read, beside robosuite's code; where that cannot be written,
    in a folder that may be everybody's. Then ours takes its place: without any, robosuite is not imported.

    Raises:
        CacheError: our cache is needed and cannot be written, or is somebody else's.
    """
    if environ.get("NUMBA_CACHE_DIR"):
        return {}
    package = importlib.util.find_spec("robosuite")
    for location in (package.submodule_search_locations or ()) if package is not None else ():
        beside = Path(location) / "utils"
        if all(os.access(folder, os.W_OK) for folder in (beside, beside / "__pycache__")):
            return {}
    return {"NUMBA_CACHE_DIR": str(private_folder(environ, "libero", "numba"))}
