"""`LeRobotMixtureDataset` of Isaac-GR00T N1.5: several data sets, of which samples are drawn by number.

The same number gives the same sample as there, so that what was found with one program can be looked at with
another. Training uses `mixture.DatasetMixture`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from gr00t.data.embodiment_tags import EmbodimentTag
from gr00t.data.errors import MetadataError
from gr00t.data.lerobot.meta.faults import DatasetError
from gr00t.data.lerobot.single_dataset import LeRobotSingleDataset
from gr00t.data.merged_metadata import Percentiles, merge_metadata
from gr00t.data.schema import DatasetMetadata

_MODES = ("train", "val", "test")


class LeRobotMixtureDataset(Dataset[dict[str, Any]]):
    """Several data sets as one.

    Args:
        data_mixture: data sets with their weights, positive; one of them has weight 1.
        mode: train: other samples in every epoch; val or test: always the same.
        balance_dataset_weights: a weight counts by the set's time steps.
        balance_trajectory_weights: an episode counts by its time steps.
        seed: of the samples.
        metadata_config: `{"percentile_mixing_method": "min_max"}` or `"weighted_average"`.

    Attributes:
        merged_metadata: by embodiment tag, which the transforms of the sets have got.

    Raises:
        ValueError: weights, a mode or a method that are none; no set of weight 1.
        DatasetError: sets of one embodiment that differ in keys, widths, resolutions or frames per second.
    """

    def __init__(
        self,
        data_mixture: Sequence[tuple[LeRobotSingleDataset, float]],
        mode: str,
        balance_dataset_weights: bool = True,
        balance_trajectory_weights: bool = True,
        seed: int = 42,
        metadata_config: Mapping[str, str] | None = None,
    ) -> None:
        if mode not in _MODES:
            raise ValueError(f"mode: expected one of {', '.join(_MODES)}, got {mode!r}")
        self.datasets = [dataset for dataset, _ in data_mixture]
        weights = [float(weight) for _, weight in data_mixture]
        for weight in weights:
            if not (math.isfinite(weight) and weight > 0):
                raise ValueError(f"data_mixture: weight {weight!r}: expected a number above 0")
        self.primary_dataset_indices = np.asarray(weights) == 1.0
        if not self.primary_dataset_indices.any():
            raise ValueError("data_mixture: one data set must have weight 1.0: an epoch is as long as it")
        self.mode = mode
        self.seed = seed
        self.balance_dataset_weights = balance_dataset_weights
        self.balance_trajectory_weights = balance_trajectory_weights
        self.dataset_lengths = np.asarray([len(dataset) for dataset in self.datasets])
        shares = np.asarray(weights) * (self.dataset_lengths if balance_dataset_weights else 1)
        self.dataset_sampling_weights: NDArray[np.float64] = shares / shares.sum()
        self.trajectory_sampling_weights = [
            _normalized(dataset.trajectory_lengths if balance_trajectory_weights else np.ones(count))
            for dataset in self.datasets
            for count in [len(dataset.trajectory_lengths)]
        ]
        self.set_epoch(0)
        self.update_metadata(metadata_config or {"percentile_mixing_method": "min_max"})

    def __len__(self) -> int:
        """Samples after which the longest set of weight 1 has been drawn once, on average."""
        epochs = self.dataset_lengths / self.dataset_sampling_weights
        return int(epochs[self.primary_dataset_indices].max())

    def __str__(self) -> str:
        described = [
            {"Dataset": str(dataset), "Sampling weight": float(weight)}
            for dataset, weight in zip(self.datasets, self.dataset_sampling_weights, strict=True)
        ]
        return json.dumps({"Mixture dataset": described}, indent=2)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The sample of a number, transformed; any number has one."""
        dataset, trajectory, step = self.sample_step(index)
        return dataset.transforms(dataset.get_step_data(trajectory, step))

    def sample_step(self, index: int) -> tuple[LeRobotSingleDataset, int, int]:
        """The data set, episode and time step of a number."""
        seed = int(index) if self.mode != "train" else _hash((self.epoch, int(index), self.seed))
        generator = np.random.default_rng(seed)
        chosen = generator.choice(len(self.datasets), p=self.dataset_sampling_weights)
        dataset = self.datasets[chosen]
        place = generator.choice(len(dataset.trajectory_ids), p=self.trajectory_sampling_weights[chosen])
        step = generator.choice(dataset.trajectory_lengths[place])
        return dataset, dataset.trajectory_ids[place], step

    def set_epoch(self, epoch: int) -> None:
        """Choose an epoch."""
        self.epoch = epoch

    def update_metadata(self, metadata_config: Mapping[str, str]) -> None:
        """Merge what the sets say of each embodiment, and tell it to their transforms.

        Raises:
            ValueError: an unknown method.
            DatasetError: the sets do not fit together.
        """
        method = metadata_config.get("percentile_mixing_method")
        methods = {each.value: each for each in Percentiles}
        if method not in methods:
            raise ValueError(f"percentile_mixing_method: expected {' or '.join(methods)}, got {method!r}")
        self.tag = EmbodimentTag.NEW_EMBODIMENT.value
        self.merged_metadata: dict[str, DatasetMetadata] = {}
        tags = np.asarray([dataset.tag for dataset in self.datasets])
        for tag in dict.fromkeys(tags.tolist()):
            places = np.flatnonzero(tags == tag)
            metadatas = [self.datasets[place].metadata for place in places]
            try:
                merged = merge_metadata(metadatas, self.dataset_sampling_weights[places], methods[method])
            except MetadataError as error:
                listed = ", ".join(str(self.datasets[place].dataset_path) for place in places)
                raise DatasetError(f"{listed}: {error}") from error
            self.merged_metadata[tag] = merged
        for dataset in self.datasets:
            dataset.set_transforms_metadata(self.merged_metadata[dataset.tag])


def _normalized(weights: NDArray[Any]) -> NDArray[np.float64]:
    return weights / weights.sum()


def _hash(numbers: tuple[int, ...]) -> int:
    """A number below 2^128."""
    return int(hashlib.sha256(repr(numbers).encode()).hexdigest(), 16) % 2**128
