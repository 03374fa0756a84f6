"""Files that come with this package: examples/ of a checkout, which an installation has as gr00t/examples."""

from __future__ import annotations

from pathlib import Path

LIBERO = Path(__file__).resolve().parents[1] / "examples" / "Libero"
RECIPES = LIBERO / "recipes"
# The small policy that plays offline, trained on the stand-ins.
DEMO_POLICY = LIBERO / "demo_policy"
# Which column of a data set is what, for the demonstrations that are recorded here.
LIBERO_MODALITY = LIBERO / "modality.json"
