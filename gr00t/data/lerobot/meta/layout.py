"""The descriptions of a data set, read and checked: what it holds and where."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gr00t.data.lerobot.meta.episodes import EPISODES, INFO, Clip, EpisodeInfo, read_episodes_v2
from gr00t.data.lerobot.meta.episodes_v3 import EPISODES as EPISODES_V3
from gr00t.data.lerobot.meta.episodes_v3 import read_episodes_v3
from gr00t.data.lerobot.meta.faults import DatasetError, Fault, raise_faults
from gr00t.data.lerobot.meta.features import is_image
from gr00t.data.lerobot.meta.meta_files import read_object, whole_number
from gr00t.data.lerobot.meta.modality import Modality, read_modality

__all__ = ["DatasetError", "Layout", "read_layout"]

logger = logging.getLogger(__name__)

_CONVERTER = (
    "convert it with lerobot 0.3: python -m lerobot.datasets.v2.convert_dataset_v1_to_v2 --repo-id NAME "
    "--single-task TEXT --local-dir FOLDER"
)


@dataclass(frozen=True)
class Layout:
    """What the descriptions say.

    Attributes:
        folder: of the data set.
        version: of LeRobot's layout, 2 or 3.
        fps: rows per second.
        features: of info.json.
        episodes: in the order in which they are listed; those without a row are left out.
        modality: states, actions, cameras and annotations by the keys of a data configuration.
    """

    folder: Path
    version: int
    fps: float
    features: dict[str, Any]
    episodes: tuple[EpisodeInfo, ...]
    modality: Modality

    @classmethod
    def read(cls, folder: Path) -> Layout:
        """Read the descriptions in `meta/`.

        Raises:
            DatasetError: one is missing, malformed or contradicts another.
        """
        faults: list[Fault] = []
        layout = read_layout(folder, faults)
        raise_faults(folder, faults)
        assert layout is not None, "what keeps a layout from being read is a fault"
        return layout

    def clips(self, camera: str) -> list[Clip]:
        """What a camera, `video.image` and the like, saw of each episode."""
        key = self.modality.cameras.get(camera)
        return [episode.clips[key] for episode in self.episodes if key in episode.clips]

    def videos(self, camera: str) -> list[Path]:
        """The files of a camera, each once; none where its images are in the rows, or there is no camera."""
        if is_image(self.features, self.modality.cameras.get(camera, "")):
            return []
        return list(dict.fromkeys(clip.path for clip in self.clips(camera)))


def read_layout(folder: Path, faults: list[Fault]) -> Layout | None:
    """Read the descriptions in `meta/`; None, and faults, where nothing can be read by them."""
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "no such folder"
        # NAME/SET is how the hub names a set.
        command = f"hf download --repo-type dataset {folder} --local-dir FOLDER"
        of_hub = len(folder.parts) == 2 and not folder.is_absolute() and not folder.exists()
        faults.append(
            Fault(folder, what, helps=f"download a set of the hub first: {command}" if of_hub else "")
        )
        return None
    if (folder / "meta_data").is_dir() and not (folder / INFO).is_file():
        faults.append(Fault(folder, "a data set in LeRobot's v1 layout (meta_data/)", helps=_CONVERTER))
        return None
    if not (folder / INFO).is_file():
        within = sorted(found.parents[1].name for found in folder.glob(f"*/{INFO}"))
        helps = f"the folder holds data sets: {', '.join(within)}" if within else ""
        known = "a data set in LeRobot's v2 or v3 layout has it"
        faults.append(Fault(folder / INFO, "not found", allowed=known, helps=helps))
        return None
    info = read_object(folder / INFO, folder, faults)
    version = None if info is None else _version(info, folder, faults)
    if info is None or version is None:
        return None
    fps = info.get("fps")
    if not isinstance(fps, int | float) or isinstance(fps, bool) or not 0 < fps < math.inf:
        got = repr(fps) if "fps" in info else "nothing"
        faults.append(Fault(folder / INFO, f"fps must be a positive number, got {got}"))
        fps = 1
    features = info.get("features")
    if not isinstance(features, dict):
        got = repr(features) if "features" in info else "nothing"
        faults.append(Fault(folder / INFO, f"features: expected an object, got {got}"))
        features = {}
    modality = read_modality(folder, features, faults)
    return Layout(
        folder=folder,
        version=version,
        fps=float(fps),
        features=features,
        episodes=_episodes(folder, info, version, features, modality, faults),
        modality=modality,
    )


def _episodes(
    folder: Path,
    info: Mapping[str, Any],
    version: int,
    features: Mapping[str, Any],
    modality: Modality,
    faults: list[Fault],
) -> tuple[EpisodeInfo, ...]:
    videos = [key for key in dict.fromkeys(modality.cameras.values()) if not is_image(features, key)]
    if version == 2:
        chunk_size = whole_number(info.get("chunks_size", 1000))
        if chunk_size is None or chunk_size < 1:
            what = f"chunks_size must be a whole number of at least 1, got {info['chunks_size']!r}"
            faults.append(Fault(folder / INFO, what))
            chunk_size = 1000
        episodes = read_episodes_v2(folder, info, chunk_size, videos, faults)
    else:
        episodes = read_episodes_v3(folder, info, videos, faults)
    shown = tuple(episode for episode in episodes if episode.length)
    if len(shown) < len(episodes):
        logger.warning("%s: %d episodes have no row and are left out", folder, len(episodes) - len(shown))
    return shown


def _version(info: Mapping[str, Any], folder: Path, faults: list[Fault]) -> int | None:
    """2 or 3, as the files are; NVIDIA's programs need no codebase_version, so it may be missing."""
    given = info.get("codebase_version")
    layouts = {2: folder / EPISODES, 3: folder / EPISODES_V3}
    if given is None:
        there = [version for version, path in layouts.items() if path.exists()]
        if len(there) == 1:
            return there[0]
    major = re.match(r"v?(\d+)(\.|$)", str(given))
    version = int(major[1]) if major else None
    if version not in layouts:
        helps = _CONVERTER if version == 1 else ""
        what = f"codebase_version {given!r}; LeRobot's v2 and v3 layouts are read"
        faults.append(Fault(folder / INFO, what, helps=helps))
        return None
    other = 5 - version
    if not layouts[version].exists() and layouts[other].exists():
        what = f"codebase_version {given!r}, but {layouts[other].name} is of the v{other} layout"
        faults.append(Fault(folder / INFO, what, helps="correct the version, or convert the set once more"))
        return None
    return version
