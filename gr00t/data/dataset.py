"""Which time steps and keys of a modality a policy uses; and, by Isaac-GR00T N1.5's names, data sets.

Kept free of torch, and runs on Python 3.8: the simulator's client decodes `ModalityConfig` from the wire. The
classes of data sets are imported when they are asked for.
"""

from __future__ import annotations

import importlib
from typing import Any, List

from pydantic import BaseModel, Field

from gr00t.data.reference_names import missing_names

LE_ROBOT_MODALITY_FILENAME = "meta/modality.json"
LE_ROBOT_EPISODE_FILENAME = "meta/episodes.jsonl"
LE_ROBOT_TASKS_FILENAME = "meta/tasks.jsonl"
LE_ROBOT_INFO_FILENAME = "meta/info.json"
LE_ROBOT_STATS_FILENAME = "meta/stats.json"
LE_ROBOT_DATA_FILENAME = "data/*/*.parquet"

_LATER = {
    "LeRobotSingleDataset": "gr00t.data.lerobot.single_dataset",
    "LeRobotMixtureDataset": "gr00t.data.lerobot.mixture_dataset",
}
_missing = missing_names(
    __name__,
    {
        "CachedLeRobotSingleDataset": "LeRobotSingleDataset, or gr00t.data.lerobot.dataset.LeRobotDataset, "
        "which caches frames on disk",
        "MixtureSpecElement": "LeRobotMixtureDataset, which takes pairs of a data set and its weight",
        "calculate_dataset_statistics": "LeRobotSingleDataset(...).metadata.statistics",
        "safe_hash": "hashlib",
    },
)


class ModalityConfig(BaseModel):
    """The keys of one modality and the time steps, relative to now, at which they are needed."""

    delta_indices: List[int] = Field(..., description="time steps relative to the current one")
    modality_keys: List[str] = Field(..., description='keys, for example "state.x"')


def __getattr__(name: str) -> Any:
    """Import a class of data sets.

    Raises:
        ImportError: N1.5 has the name here, and this project does not; or what reads data sets is missing.
        AttributeError: there is no such name.
    """
    if name in _LATER:
        try:
            return getattr(importlib.import_module(_LATER[name]), name)
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("gr00t"):
                raise
            raise ImportError(
                f"{name} needs {error.name!r}, which is not installed; ./scripts/setup_env.sh core train "
                "installs all that data sets need"
            ) from error
    return _missing(name)
