"""Importing LIBERO and robosuite without what they do to the machine at import."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

from gr00t.eval.libero.suites import LiberoError


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
