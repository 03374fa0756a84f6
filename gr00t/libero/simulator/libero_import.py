"""Importing LIBERO and robosuite without what they do to the machine at import."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gr00t.files.private_folder import private_folder
from gr00t.libero.tasks.suites import LiberoError


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


def environment_class(assets: Path) -> Any:
    """LIBERO's `ControlEnv`, which will read its meshes and textures from `assets`.

    Raises:
        LiberoError: if robosuite is not installed.
    """
    if "robosuite" not in sys.modules:
        # Robosuite opens a log file of a fixed name in a folder that all users share, and advises on stderr.
        # Its settings module decides that and has no dependencies, so it can be loaded and changed before the
        # package.
        package = importlib.util.find_spec("robosuite")
        if package is None or not package.submodule_search_locations:
            raise LiberoError("robosuite is not installed; run: scripts/setup_env.sh libero")
        path = Path(package.submodule_search_locations[0]) / "macros.py"
        spec = importlib.util.spec_from_file_location("robosuite.macros", path)
        assert spec is not None
        assert spec.loader is not None
        macros = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(macros)
        vars(macros).update(FILE_LOGGING_LEVEL=None, CONSOLE_LOGGING_LEVEL="ERROR")
        sys.modules["robosuite.macros"] = macros
        vars(importlib.import_module("robosuite"))["macros"] = macros
    libero = importlib.import_module("libero.libero")
    vars(libero)["_assets_path_cache"] = str(assets)
    return importlib.import_module("libero.libero.envs.env_wrapper").ControlEnv
