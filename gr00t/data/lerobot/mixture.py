"""Several data sets as one: what is drawn is shared among them by weight.

As in Isaac-GR00T N1.5, a weight says how much more often a time step of this set is drawn than one of a set
of weight 1; unless the sets are not balanced: then it is the share of the set as a whole, however long.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gr00t.data.dataset import ModalityConfig
from gr00t.data.embodiment_tags import EmbodimentTag
from gr00t.data.lerobot.dataset import LeRobotDataset
from gr00t.data.lerobot.frames.video_files import first_shape
from gr00t.data.lerobot.meta.faults import DatasetError
from gr00t.data.lerobot.meta.layout import Layout
from gr00t.data.lerobot.meta.meta_files import absent
from gr00t.data.merged_metadata import Percentiles, merge_metadata, modality_differences
from gr00t.data.schema import DatasetMetadata, DatasetModalities, VideoMetadata


class DatasetMixture:
    """The time steps of several data sets, by number: those of the first set, then those of the second, ...

    It is trained on like one `LeRobotDataset`; a mixture of one set draws what that set draws.

    Args:
        datasets: read under the same data configuration.
        weights: of each, positive; None: all 1.
        balance_datasets: a set's share is its weight times its time steps, else its weight.
        balance_trajectories: within a set each time step is as likely as another, else each episode.
        percentiles: how q01 and q99 of the sets are mixed.

    Attributes:
        lengths: of the episodes of all sets, in time steps.
        shares: of each set in what is drawn, (datasets,), summing to 1.

    Raises:
        DatasetError: the sets differ in keys, widths, resolutions or frames per second; or weights that are
            not as many positive numbers.
    """

    def __init__(
        self,
        datasets: Sequence[LeRobotDataset],
        weights: Sequence[float] | None = None,
        *,
        balance_datasets: bool = True,
        balance_trajectories: bool = True,
        percentiles: Percentiles = Percentiles.WEIGHTED_AVERAGE,
    ) -> None:
        if not datasets:
            raise DatasetError("expected at least one data set")
        given = [1.0] * len(datasets) if weights is None else list(weights)
        check_weights(given, len(datasets))
        self.datasets = tuple(datasets)
        # Any embodiment: what is compared and averaged does not depend on it.
        self._metadatas = [dataset.metadata(EmbodimentTag.NEW_EMBODIMENT) for dataset in datasets]
        folders = [dataset.layout.folder for dataset in datasets]
        _check(folders, [metadata.modalities for metadata in self._metadatas])
        steps = np.asarray([len(dataset) for dataset in datasets])
        self._ends = np.cumsum(steps)
        self.lengths: NDArray[np.int64] = np.concatenate([dataset.lengths for dataset in datasets])
        shares = np.asarray(given) / max(given) * (steps if balance_datasets else 1)
        self.shares: NDArray[np.float64] = shares / shares.sum()
        self._balance_trajectories = balance_trajectories
        self._percentiles = percentiles

    def __len__(self) -> int:
        """Number of time steps of all sets."""
        return int(self._ends[-1])

    def draw(self, generator: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Numbers (count,) of time steps to train on."""
        if len(self.datasets) == 1:
            return self._draw_from(0, generator, count)
        chosen = generator.choice(len(self.datasets), size=count, p=self.shares)
        steps = np.empty(count, dtype=np.int64)
        for number in range(len(self.datasets)):
            places = np.flatnonzero(chosen == number)
            steps[places] = self._first(number) + self._draw_from(number, generator, len(places))
        return steps

    def batch(self, steps: NDArray[np.int64] | Sequence[int]) -> dict[str, Any]:
        """Return the samples at `steps` (B,), numbers below `len(self)`, as `LeRobotDataset.batch` does."""
        at = np.asarray(steps, dtype=np.int64)
        owners = np.searchsorted(self._ends, at, side="right")
        order = np.argsort(owners, kind="stable")
        parts = [
            self.datasets[number].batch(at[owners == number] - self._first(number))
            for number in np.unique(owners)
        ]
        places = np.argsort(order)
        return {key: np.concatenate([part[key] for part in parts])[places] for key in parts[0]}

    def values(self, key: str) -> NDArray[np.float32]:
        """All time steps of a state or action, (N, A), the sets one after the other.

        Raises:
            DatasetError: the data configuration has no such key.
        """
        return np.concatenate([dataset.values(key) for dataset in self.datasets])

    def digest(self) -> str:
        """SHA-256 of the samples of all sets in their order, see `LeRobotDataset.digest`."""
        return hashlib.sha256("".join(dataset.digest() for dataset in self.datasets).encode()).hexdigest()

    def metadata(self, embodiment_tag: EmbodimentTag) -> DatasetMetadata:
        """Shapes, and the statistics of the sets merged by share, see `merged_metadata`."""
        if len(self.datasets) == 1:
            described = self._metadatas[0]
        else:
            described = merge_metadata(self._metadatas, self.shares, self._percentiles)
        return described.model_copy(update={"embodiment_tag": embodiment_tag})

    def _first(self, number: int) -> int:
        return int(self._ends[number]) - len(self.datasets[number])

    def _draw_from(self, number: int, generator: np.random.Generator, count: int) -> NDArray[np.int64]:
        dataset = self.datasets[number]
        if self._balance_trajectories:
            return dataset.draw(generator, count)
        episodes = generator.integers(0, len(dataset.lengths), count)
        starts = np.cumsum(dataset.lengths) - dataset.lengths
        steps: NDArray[np.int64] = starts[episodes] + generator.integers(0, dataset.lengths[episodes])
        return steps


def check_weights(weights: Sequence[float], datasets: int) -> None:
    """Find out whether each of some data sets has a weight that means something.

    Raises:
        DatasetError: they are not as many positive numbers.
    """
    if len(weights) != datasets:
        raise DatasetError(f"{len(weights)} weights, {datasets} data sets; expected one for each")
    for weight in weights:
        if not (math.isfinite(weight) and weight > 0):
            raise DatasetError(
                f"weight {weight!r}: expected a number above 0; leave out a set that is not wanted"
            )


def check_sets_fit(layouts: Sequence[Layout], modalities: Mapping[str, ModalityConfig]) -> None:
    """Find out whether sets can be trained on together, before more than a frame of each is decoded.

    Raises:
        DatasetError: they differ; the message lists in what. Files that are missing are left to
            `LeRobotDataset`, and the sizes of images that are in the rows to `DatasetMixture`.
    """
    if len(layouts) > 1:
        _check([layout.folder for layout in layouts], [_described(layout, modalities) for layout in layouts])


def _described(layout: Layout, modalities: Mapping[str, ModalityConfig]) -> DatasetModalities:
    wanted = {key for config in modalities.values() for key in config.modality_keys}
    kinds: dict[str, dict[str, Any]] = {"video": {}, "state": {}, "action": {}}
    for key, column in layout.modality.columns.items():
        kind, _, name = key.partition(".")
        if key in wanted:
            kinds[kind][name] = column.described()
    for key in layout.modality.cameras:
        files = layout.videos(key) if key in wanted else []
        if files and absent(files[0], layout.folder) is None:
            height, width, channels = first_shape(files[0])
            described = VideoMetadata(resolution=(width, height), channels=channels, fps=layout.fps)
            kinds["video"][key.removeprefix("video.")] = described
    return DatasetModalities(**kinds)


def _check(folders: Sequence[Path], described: Sequence[DatasetModalities]) -> None:
    problems = []
    for folder, other in zip(folders[1:], described[1:], strict=True):
        found = modality_differences(described[0], other)
        if found:
            problems.append("\n  ".join([f"{folders[0]} and {folder}:", *found]))
    if problems:
        raise DatasetError(
            "data sets that are trained on together must agree in keys, widths, resolutions and frames "
            "per second:\n" + "\n".join(problems)
        )
