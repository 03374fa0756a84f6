"""One description of several training sets, with the statistics of what is drawn from all of them.

With w_i the share of set i in what is drawn, m_i and s_i its mean and standard deviation,

    mean = sum w_i m_i,    std^2 = sum w_i (s_i^2 + (m_i - mean)^2),    min, max: over all sets,

which are the moments of what is drawn. Percentiles of a mixture do not follow from those of its parts; as in
Isaac-GR00T N1.5 they are averaged by share, or the widest are taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from gr00t.data.errors import MetadataError
from gr00t.data.schema import (
    DatasetMetadata,
    DatasetModalities,
    DatasetStatisticalValues,
    DatasetStatistics,
)


class Percentiles(Enum):
    """What becomes of q01 and q99."""

    WEIGHTED_AVERAGE = "weighted_average"
    MIN_MAX = "min_max"


def merge_metadata(
    metadatas: Sequence[DatasetMetadata],
    shares: NDArray[np.float64],
    percentiles: Percentiles = Percentiles.WEIGHTED_AVERAGE,
) -> DatasetMetadata:
    """Return the description of all sets together.

    Args:
        metadatas: of the sets, for one embodiment.
        shares: of each in what is drawn, positive; they need not sum to 1.
        percentiles: how q01 and q99 are mixed.

    Raises:
        MetadataError: the sets differ in what `modality_differences` compares, or in their embodiment.
    """
    first = metadatas[0]
    tags = {metadata.embodiment_tag.value for metadata in metadatas}
    if len(tags) > 1:
        raise MetadataError(f"data sets of different embodiments: {', '.join(sorted(tags))}")
    for number, metadata in enumerate(metadatas[1:], start=1):
        if found := modality_differences(first.modalities, metadata.modalities):
            raise MetadataError(f"data sets 0 and {number} differ: {'; '.join(found)}")
    weights = np.asarray(shares, dtype=np.float64) / np.sum(shares)
    merged = {
        kind: {
            name: _merge([getattr(each.statistics, kind)[name] for each in metadatas], weights, percentiles)
            for name in getattr(first.statistics, kind)
        }
        for kind in ("state", "action")
    }
    return first.model_copy(update={"statistics": DatasetStatistics(**merged)}, deep=True)


def modality_differences(one: DatasetModalities, other: DatasetModalities) -> list[str]:
    """What two sets describe differently: keys, widths, resolutions, frames per second and the like."""
    ours, theirs = one.model_dump(mode="json"), other.model_dump(mode="json")
    return [
        f"{kind}.{name}: {problem}"
        for kind in ours
        for name in dict.fromkeys([*ours[kind], *theirs[kind]])
        if (problem := _difference(ours[kind].get(name), theirs[kind].get(name)))
    ]


def _difference(one: Mapping[str, object] | None, other: Mapping[str, object] | None) -> str:
    if one is None or other is None:
        return "only in the second" if one is None else "only in the first"
    differing = [field for field in one if one[field] != other[field]]
    return ", ".join(f"{field} {one[field]} and {other[field]}" for field in differing)


def _merge(
    parts: Sequence[DatasetStatisticalValues], weights: NDArray[np.float64], percentiles: Percentiles
) -> DatasetStatisticalValues:
    """The statistics of one key; every entry is (A,)."""
    means = np.stack([part.mean for part in parts])
    deviations = np.stack([part.std for part in parts])
    mean = weights @ means
    variance = weights @ (deviations**2 + (means - mean) ** 2)
    lows, highs = np.stack([part.q01 for part in parts]), np.stack([part.q99 for part in parts])
    if percentiles is Percentiles.WEIGHTED_AVERAGE:
        q01, q99 = weights @ lows, weights @ highs
    else:
        q01, q99 = lows.min(axis=0), highs.max(axis=0)
    return DatasetStatisticalValues(
        max=np.max([part.max for part in parts], axis=0),
        min=np.min([part.min for part in parts], axis=0),
        mean=mean,
        std=np.sqrt(variance),
        q01=q01,
        q99=q99,
    )
