"""LIBERO's own meshes and textures, for the tests that compare with them wherever they are installed."""

from __future__ import annotations

import os

import pytest

from gr00t.libero.assets.packages import packages_folder, packages_problem

_INSTALLED = "" if packages_problem("libero_90") else str(packages_folder())
REAL_ASSETS = os.environ.get("LIBERO_ASSETS") or _INSTALLED
needs_real_assets = pytest.mark.skipif(
    not REAL_ASSETS,
    reason="compares with LIBERO's own assets; enable with: ./scripts/setup_env.sh libero-assets (357 MB)",
)
