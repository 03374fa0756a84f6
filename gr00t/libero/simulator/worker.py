"""The simulator's process: reads requests from stdin, answers on stdout, ends at the end of its input.

An error is not handled here: the process dies with its traceback in the log, and the other side starts a new
one.
"""

from __future__ import annotations

import os
import pickle
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from gr00t.libero.datagen.demonstrations import demonstrate
from gr00t.libero.datagen.labelled_scenes import sample_scenes
from gr00t.libero.simulator.rendering import Rendering
from gr00t.libero.simulator.settling import settle
from gr00t.libero.simulator.simulator import LiberoSimulator

_METHODS = {
    name: getattr(LiberoSimulator, name)
    for name in ("open_task", "start_episode", "run", "play_expert", "view", "positions")
} | {"demonstrate": demonstrate, "sample_scenes": sample_scenes, "settle": settle}


def main(assets: Path, image_size: int, rendering: Rendering, robot_meshes: Path | None) -> None:
    """Serve one `LiberoSimulator` over the standard streams."""
    # LIBERO and its libraries print; their lines must not land between the answers.
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    # Imported before the first answer: a machine on which GL or mujoco cannot be loaded is told at once.
    import mujoco

    mujoco.GLContext(16, 16).free()
    versions = {name: _version(name) for name in ("mujoco", "robosuite", "hf-libero", "bddl", "numpy")}
    pickle.dump(versions, replies)
    replies.flush()

    simulator = LiberoSimulator(assets, image_size, rendering, robot_meshes)
    while True:
        try:
            method, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            break
        if method not in _METHODS:
            raise ValueError(f"unknown request {method!r}")
        pickle.dump(_METHODS[method](simulator, *arguments), replies)
        replies.flush()
    simulator.close()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"  # LIBERO installed from its repository goes by another name


if __name__ == "__main__":
    folder, size, msaa, meshes = sys.argv[1:]
    drawing = Rendering(light_robot=bool(meshes), msaa=msaa == "msaa")
    main(Path(folder), int(size), drawing, Path(meshes) if meshes else None)
