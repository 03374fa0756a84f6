"""A file of labelled scenes in which nothing is to be seen, for tests of what reads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_scenes(folder: Path, count: int, size: int, kinds: list[str]) -> Path:
    """Write `count` scenes of noise, images of `size` pixels from two cameras; return the folder."""
    random = np.random.default_rng(0)
    folder.mkdir()
    np.savez(
        folder / "invented.npz",
        images=random.integers(0, 256, (count, 2, size, size, 3), dtype=np.uint8),
        centres=random.random((count, 2, len(kinds), 2), dtype=np.float32),
        states=random.uniform(-0.5, 0.5, (count, 8)).astype(np.float32),
        positions=random.uniform(-0.5, 0.5, (count, len(kinds), 3)).astype(np.float32),
        kinds=np.array(kinds),
    )
    return folder
