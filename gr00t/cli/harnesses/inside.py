"""Starts vla-eval in a process that has the variables of a simulator: `ASSETS WORD...`, its own words."""

from __future__ import annotations

import importlib
import sys


def main(assets: str, *words: str) -> None:
    """Go on as vla-eval, whose LIBERO reads meshes and textures from `assets`."""
    from gr00t.libero.simulator.libero_environment import quiet_robosuite

    quiet_robosuite()
    libero = importlib.import_module("libero.libero")
    # hf-libero asks the one, LIBERO-PRO's fork of it the other.
    vars(libero).update(_assets_path_cache=assets, _packaged_asset_path=lambda: assets)
    sys.argv = ["vla-eval", *words]
    importlib.import_module("vla_eval.cli.main").main()


if __name__ == "__main__":
    main(*sys.argv[1:])
