"""Labelled scenes as scripts/collect_scenes.py writes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SceneFiles:
    """N scenes from C cameras, with K kinds of objects.

    Attributes:
        images: (N, C, S, S, 3) uint8.
        centres: (N, C, K, 2) float32, see `gr00t.eval.libero.labelled_scenes.LabelledScenes`.
        kinds: what the K are called; the last is what things are put into, and is never asked for.
    """

    images: NDArray[np.uint8]
    centres: NDArray[np.float32]
    kinds: list[str]

    def prompts(self, instruction: str) -> list[str]:
        """One for each kind that is asked for: `instruction` with its name for `{}`."""
        return [instruction.format(kind) for kind in self.kinds[:-1]]


def load_scenes(folder: Path) -> SceneFiles:
    """All scenes of a folder, in one order.

    Raises:
        ValueError: there are none, or they are labelled differently.
    """
    files = [np.load(path) for path in sorted(folder.glob("*.npz")) if ".partial-" not in path.name]
    if not files:
        raise ValueError(f"{folder}: no scenes; scripts/collect_scenes.py makes them")
    kinds = [file["kinds"].tolist() for file in files]
    if any(names != kinds[0] for names in kinds):
        raise ValueError(f"{folder}: files that label different kinds of objects")
    images = np.concatenate([file["images"] for file in files])
    return SceneFiles(images, np.concatenate([file["centres"] for file in files]), kinds[0])
