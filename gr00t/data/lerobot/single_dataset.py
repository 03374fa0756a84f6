"""`LeRobotSingleDataset` of Isaac-GR00T N1.5 over this project's reader, for programs written for that class.

Values, dtypes and shapes of a sample are N1.5's, and so is which frame belongs to a row's time stamp: that
depends on the decoder that is asked for (`row_frames`), though PyAV decodes whatever its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from gr00t.data.dataset import ModalityConfig
from gr00t.data.embodiment_tags import EmbodimentTag
from gr00t.data.lerobot.episode_samples import EpisodeSamples
from gr00t.data.lerobot.meta.episodes import INFO
from gr00t.data.lerobot.meta.faults import DatasetError, Fault, raise_faults
from gr00t.data.lerobot.meta.layout import Layout
from gr00t.data.lerobot.meta.meta_files import read_object
from gr00t.data.lerobot.meta.modality import unknown_keys
from gr00t.data.lerobot.meta.tasks import read_tasks
from gr00t.data.lerobot.rows.row_frames import RULE_OF_BACKEND
from gr00t.data.lerobot.set_metadata import metadata_of_set
from gr00t.data.schema import DatasetMetadata
from gr00t.data.transform.base import ComposedModalityTransform
from gr00t.spelling import did_you_mean

_PATHS = "get_video_path and get_trajectory_data"
_USE_INSTEAD = {
    "data_path_pattern": _PATHS,
    "video_path_pattern": _PATHS,
    "chunk_size": _PATHS,
    "get_episode_chunk": _PATHS,
    "retrieve_data_and_pad": "get_state_or_action, which pads",
}


class LeRobotSingleDataset(Dataset[dict[str, Any]]):
    """The time steps of a data set, one by one, under the keys of a data configuration.

    Args:
        dataset_path: folder of the data set.
        modality_configs: keys and time steps of video, state, action and language.
        embodiment_tag: of the robot that it is from.
        video_backend: one of N1.5's names, which decides which frame belongs to a time stamp.
        video_backend_kwargs: not used.
        transforms: applied to a sample by `dataset[i]`; they are told the metadata.

    Raises:
        FileNotFoundError: there is no such folder.
        DatasetError: it is no data set, or lacks a key.
        ValueError: an unknown embodiment tag or decoder.
    """

    def __init__(
        self,
        dataset_path: Path | str,
        modality_configs: Mapping[str, ModalityConfig],
        embodiment_tag: str | EmbodimentTag,
        video_backend: str = "torchcodec",
        video_backend_kwargs: dict[str, Any] | None = None,
        transforms: ComposedModalityTransform | None = None,
    ) -> None:
        if not Path(dataset_path).exists():
            raise FileNotFoundError(f"Dataset path {dataset_path} does not exist")
        if video_backend not in RULE_OF_BACKEND:
            hint = did_you_mean(video_backend, RULE_OF_BACKEND)
            raise ValueError(f"video_backend: unknown {video_backend!r}; {hint}")
        self._embodiment_tag = EmbodimentTag(embodiment_tag)
        self.tag = self._embodiment_tag.value
        self.modality_configs = dict(modality_configs)
        self.video_backend = video_backend
        self.video_backend_kwargs = video_backend_kwargs or {}
        self._layout = _checked_layout(Path(dataset_path), self.modality_configs)
        self._samples = EpisodeSamples(self._layout, self.modality_configs, RULE_OF_BACKEND[video_backend])
        self.transforms = ComposedModalityTransform(transforms=[]) if transforms is None else transforms
        if transforms is not None:
            self.set_transforms_metadata(self.metadata)
        self.epoch = 0
        self.curr_traj_id: int | None = None
        self._table: Any = None

    @property
    def dataset_path(self) -> Path:
        """The folder."""
        return self._layout.folder

    @property
    def dataset_name(self) -> str:
        """The folder's name."""
        return self._layout.folder.name

    @cached_property
    def metadata(self) -> DatasetMetadata:
        """Shapes and statistics of every key of the set."""
        return metadata_of_set(self._layout, self._embodiment_tag)

    @cached_property
    def trajectory_ids(self) -> NDArray[np.int64]:
        """The numbers of the episodes."""
        return np.asarray([episode.index for episode in self._layout.episodes])

    @cached_property
    def trajectory_lengths(self) -> NDArray[np.int64]:
        """The time steps of each, in the same order."""
        return np.asarray([episode.length for episode in self._layout.episodes])

    @cached_property
    def all_steps(self) -> list[tuple[int, int]]:
        """Episode and time step of every sample."""
        return [
            (trajectory, step)
            for trajectory, length in zip(self.trajectory_ids, self.trajectory_lengths, strict=True)
            for step in range(length)
        ]

    @property
    def modality_keys(self) -> dict[str, list[str]]:
        """The keys of each modality."""
        return {kind: config.modality_keys for kind, config in self.modality_configs.items()}

    @property
    def delta_indices(self) -> dict[str, NDArray[np.int64]]:
        """The time steps of each key."""
        return {
            key: np.asarray(config.delta_indices)
            for config in self.modality_configs.values()
            for key in config.modality_keys
        }

    @property
    def max_delta_index(self) -> int:
        """The latest of them, at least 0."""
        return max([0, *(int(steps.max()) for steps in self.delta_indices.values())])

    def __getattr__(self, name: str) -> Any:
        """Called for what there is not.

        Raises:
            AttributeError: for every name; the message says what serves instead of those that N1.5 has.
        """
        if name in _USE_INSTEAD:
            raise AttributeError(
                f"LeRobotSingleDataset: this project has no {name} of Isaac-GR00T N1.5; "
                f"use {_USE_INSTEAD[name]}"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __len__(self) -> int:
        """Number of time steps."""
        return int(self.trajectory_lengths.sum())

    def __str__(self) -> str:
        return f"{self.dataset_name} ({len(self)} steps)"

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The sample at a place of `all_steps`, transformed."""
        trajectory, step = self.all_steps[index]
        return self.transforms(self.get_step_data(trajectory, step))

    def get_step_data(self, trajectory_id: int, base_index: int) -> dict[str, Any]:
        """A sample, not transformed.

        Returns:
            `video.*` (T, H, W, 3) uint8, `state.*` and `action.*` (T, A) float64, annotations as T texts.
            Beyond the ends of an episode its first and last row are repeated, or zero where they are changes.

        Raises:
            ValueError: there is no such episode.
            DatasetError: it cannot be read.
        """
        if trajectory_id != self.curr_traj_id:
            self.curr_traj_id, self._table = trajectory_id, None
        return {
            key: self.get_data_by_modality(trajectory_id, kind, key, base_index)
            for kind, keys in self.modality_keys.items()
            for key in keys
        }

    def get_data_by_modality(self, trajectory_id: int, modality: str, key: str, base_index: int) -> Any:
        """One key of a sample, by the method of its modality, which a subclass may have replaced.

        Raises:
            ValueError: there is no such episode, modality or key.
        """
        if modality == "video":
            return self.get_video(trajectory_id, key, base_index)
        if modality in ("state", "action"):
            return self.get_state_or_action(trajectory_id, modality, key, base_index)
        if modality == "language":
            return self.get_language(trajectory_id, key, base_index)
        raise ValueError(f"Invalid modality: {modality}; {did_you_mean(modality, self.modality_keys)}")

    def get_video(self, trajectory_id: int, key: str, base_index: int) -> NDArray[np.uint8]:
        """Frames (T, H, W, 3)."""
        return self._get(trajectory_id, "video", key, base_index)

    def get_state_or_action(
        self, trajectory_id: int, modality: str, key: str, base_index: int
    ) -> NDArray[np.float64]:
        """Numbers (T, A)."""
        return self._get(trajectory_id, modality, key, base_index)

    def get_language(self, trajectory_id: int, key: str, base_index: int) -> list[str]:
        """Texts, T of them."""
        return self._get(trajectory_id, "language", key, base_index)

    def _get(self, trajectory_id: int, modality: str, key: str, base_index: int) -> Any:
        known = self.modality_keys.get(modality, [])
        if key not in known:
            raise ValueError(f"{modality}: no key {key!r}; {did_you_mean(key, known)}")
        return self._samples.get(self.get_trajectory_index(trajectory_id), modality, key, int(base_index))

    def get_trajectory_index(self, trajectory_id: int) -> int:
        """The place of an episode in `trajectory_ids`.

        Raises:
            ValueError: there is no such episode.
        """
        found = np.flatnonzero(self.trajectory_ids == trajectory_id)
        if len(found) != 1:
            first, last = self.trajectory_ids[0], self.trajectory_ids[-1]
            raise ValueError(
                f"{self.dataset_path}: no episode {trajectory_id}; it has {len(self.trajectory_ids)}, "
                f"numbered {first} to {last}"
            )
        return int(found[0])

    def get_trajectory_data(self, trajectory_id: int) -> Any:
        """All columns of an episode, as a pandas.DataFrame.

        Raises:
            ValueError: there is no such episode.
            ImportError: pandas is not installed.
        """
        episode = self._layout.episodes[self.get_trajectory_index(trajectory_id)]
        table = _pandas().read_parquet(episode.data_file)
        if self._layout.version == 3:
            table = table[table["episode_index"] == episode.index].reset_index(drop=True)
        return table

    @property
    def curr_traj_data(self) -> Any:
        """The same of the episode that was asked for last, read when it is looked at; None before.

        Subclasses may set it, and `curr_traj_id` with it.
        """
        if self._table is None and self.curr_traj_id is not None:
            self._table = self.get_trajectory_data(self.curr_traj_id)
        return self._table

    @curr_traj_data.setter
    def curr_traj_data(self, value: Any) -> None:
        self._table = value

    @cached_property
    def lerobot_modality_meta(self) -> SimpleNamespace:
        """meta/modality.json: `state`, `action`, `video` and `annotation`, each with entries by name."""
        modality = self._layout.modality
        entries: dict[str, dict[str, Any]] = {kind: {} for kind in ("state", "action", "video", "annotation")}
        named = {**modality.cameras, **modality.annotations}
        for key, entry in {**modality.columns, **named}.items():
            kind, _, name = key.partition(".")
            entries[kind][name] = SimpleNamespace(original_key=entry) if isinstance(entry, str) else entry
        return SimpleNamespace(**entries)

    @cached_property
    def tasks(self) -> Any:
        """The instructions by number, as a pandas.DataFrame with the column `task`."""
        faults: list[Fault] = []
        texts = read_tasks(self.dataset_path, self._layout.version, faults)
        raise_faults(self.dataset_path, faults)
        index = _pandas().Index(list(texts), name="task_index")
        return _pandas().DataFrame({"task": list(texts.values())}, index=index)

    @cached_property
    def lerobot_info_meta(self) -> dict[str, Any]:
        """The content of meta/info.json."""
        faults: list[Fault] = []
        content = read_object(self.dataset_path / INFO, self.dataset_path, faults)
        raise_faults(self.dataset_path, faults)
        return content or {}

    def get_video_path(self, trajectory_id: int, key: str) -> Path:
        """The video of a camera, named with or without `video.`; in LeRobot's v3 layout other episodes, too.

        Raises:
            ValueError: there is no such episode.
            DatasetError: there is no such camera, or it has no videos.
        """
        camera = f"video.{key.removeprefix('video.')}"
        known = [name for name in self._layout.modality.cameras if self._layout.videos(name)]
        if camera not in known:
            raise DatasetError(f"{self.dataset_path}: no videos of {camera!r}; {did_you_mean(camera, known)}")
        return self._layout.clips(camera)[self.get_trajectory_index(trajectory_id)].path

    def set_transforms_metadata(self, metadata: DatasetMetadata) -> None:
        """Tell the transforms shapes and statistics."""
        self.transforms.set_metadata(metadata)

    def set_epoch(self, epoch: int) -> None:
        """Keep the number of an epoch."""
        self.epoch = epoch


def _checked_layout(folder: Path, modalities: Mapping[str, ModalityConfig]) -> Layout:
    """The descriptions of a set that has every key."""
    layout = Layout.read(folder)
    if not layout.episodes:
        raise DatasetError(f"{folder}: the data set has no episode")
    wanted = [key for config in modalities.values() for key in config.modality_keys]
    faults: list[Fault] = list(unknown_keys(folder, layout.modality, layout.features, wanted))
    raise_faults(folder, faults)
    return layout


def _pandas() -> ModuleType:
    """Imported only where a table is asked for: nothing else needs it."""
    try:
        import pandas
    except ImportError as error:
        raise ImportError(
            "a table of a data set is a pandas.DataFrame; pandas is not installed: pip install pandas"
        ) from error
    return pandas
