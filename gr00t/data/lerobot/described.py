"""What a checkpoint's metadata says of a data set, put together from its parts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from gr00t.data.embodiment_tags import EmbodimentTag
from gr00t.data.lerobot.meta.faults import DatasetError
from gr00t.data.lerobot.meta.modality import Column
from gr00t.data.schema import (
    DatasetMetadata,
    DatasetModalities,
    DatasetStatisticalValues,
    DatasetStatistics,
    VideoMetadata,
    problems_of,
)


def describe_set(
    folder: Path,
    columns: Mapping[str, Column],
    statistics: Mapping[str, DatasetStatisticalValues],
    cameras: Mapping[str, VideoMetadata],
    embodiment_tag: EmbodimentTag,
) -> DatasetMetadata:
    """Return the metadata of a data set.

    Args:
        folder: of the data set, for messages.
        columns: by state and action key (`state.x`).
        statistics: of each of these.
        cameras: by key (`video.image`).
        embodiment_tag: of the robot.

    Raises:
        DatasetError: the parts contradict each other.
    """
    described: dict[str, dict[str, Any]] = {"state": {}, "action": {}}
    known: dict[str, dict[str, Any]] = {"state": {}, "action": {}}
    for key, column in columns.items():
        kind, _, name = key.partition(".")
        described[kind][name] = column.described()
        known[kind][name] = statistics[key]
    videos = {key.removeprefix("video."): camera for key, camera in cameras.items()}
    try:
        return DatasetMetadata(
            statistics=DatasetStatistics(**known),
            modalities=DatasetModalities(video=videos, **described),
            embodiment_tag=embodiment_tag,
        )
    except ValidationError as error:
        raise DatasetError(f"{folder}: {'; '.join(problems_of(error, 'the data set'))}") from error


def statistical_values(values: NDArray[np.float32]) -> DatasetStatisticalValues:
    """Statistics of (steps, A) by column."""
    exact = values.astype(np.float64)
    return DatasetStatisticalValues(
        max=exact.max(axis=0),
        min=exact.min(axis=0),
        mean=exact.mean(axis=0),
        std=exact.std(axis=0),
        q01=np.quantile(exact, 0.01, axis=0),
        q99=np.quantile(exact, 0.99, axis=0),
    )
