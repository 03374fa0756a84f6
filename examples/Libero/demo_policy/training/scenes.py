"""Labelled scenes as collect_scenes.py writes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gr00t.data.lerobot.meta.faults import DatasetError


@dataclass(frozen=True)
class SceneFiles:
    """N scenes from C cameras, with K kinds of objects.

    Attributes:
        images: (N, C, S, S, 3) uint8.
        centres: (N, C, K, 2) float32, see `gr00t.libero.datagen.labelled_scenes.LabelledScenes`.
        states: (N, 8) float32, and
        positions: (N, K, 3) float32, see there as well.
        kinds: what the K are called; the last is what things are put into, and is never asked for.
    """

    images: NDArray[np.uint8]
    centres: NDArray[np.float32]
    states: NDArray[np.float32]
    positions: NDArray[np.float32]
    kinds: list[str]

    def ways(self) -> NDArray[np.float32]:
        """From the hand to each kind of object, (N, K, 3) metres; nan where there is none of it."""
        return self.positions - self.states[:, None, :3]

    def prompts(self, instruction: str) -> list[str]:
        """One for each kind that is asked for: `instruction` with its name for `{}`."""
        return [instruction.format(kind) for kind in self.kinds[:-1]]


def load_scenes(folder: Path) -> SceneFiles:
    """All scenes of a folder, in one order.

    Raises:
        DatasetError: there are none, or they are labelled differently.
    """
    files = [np.load(path) for path in sorted(folder.glob("*.npz"))]
    if not files:
        raise DatasetError(f"{folder}: no scenes; collect_scenes.py makes them")
    kinds = [file["kinds"].tolist() for file in files]
    if any(names != kinds[0] for names in kinds):
        raise DatasetError(f"{folder}: files that label different kinds of objects")
    names = ("images", "centres", "states", "positions")
    lacking = [name for name in names if name not in files[0]]
    if lacking:
        raise DatasetError(
            f"{folder}: scenes without {', '.join(lacking)}: made by an earlier version; make anew"
        )
    joined = {name: np.concatenate([file[name] for file in files]) for name in names}
    return SceneFiles(**joined, kinds=kinds[0])
