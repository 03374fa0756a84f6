"""The demonstrations of a training: one data set or several, read as the data configuration says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tqdm import tqdm

from gr00t.cli.errors import UsageError
from gr00t.cli.training.arguments import TrainArguments
from gr00t.data.lerobot.dataset import LeRobotDataset
from gr00t.data.lerobot.meta.layout import DatasetError, Layout
from gr00t.data.lerobot.mixture import DatasetMixture, check_sets_fit, check_weights
from gr00t.data.lerobot.rows.row_frames import RULE_OF_BACKEND
from gr00t.data.transform.base import ModalityTransform
from gr00t.model.checkpoint.config import Gr00tConfig
from gr00t.model.preprocessing.fitting import check_fit
from gr00t.training.identity import DataSettings

TrainingData = LeRobotDataset | DatasetMixture


def check_data(
    arguments: TrainArguments, data_config: Any, transform: ModalityTransform, config: Gr00tConfig
) -> None:
    """Find out whether data, data configuration and network fit together, before anything is decoded.

    Raises:
        ValueError: they do not; or there are not as many weights as data sets.
    """
    if arguments.data_weights:
        try:
            check_weights(arguments.data_weights, len(arguments.data))
        except DatasetError as error:
            raise UsageError(f"--data-weights: {error}") from error
    folders = [folder.resolve() for folder in arguments.data]
    for folder in arguments.data:
        if folders.count(folder.resolve()) > 1:
            raise UsageError(f"--data: {folder} is named twice; --data-weights says what is seen more often")
    layouts = [Layout.read(folder) for folder in arguments.data]
    for layout in layouts:
        described = {key: column.described() for key, column in layout.modality.columns.items()}
        check_fit(data_config.modality_config(), transform, described, config)
    check_sets_fit(layouts, data_config.modality_config())


def load_data(arguments: TrainArguments, data_config: Any, cache: Path) -> TrainingData:
    """The demonstrations, their frames decoded into `cache` where that is the way they are read.

    Raises:
        DatasetError: a set is damaged, lacks a key, or does not go together with the others.
    """
    modalities = data_config.modality_config()
    layouts = [Layout.read(folder) for folder in arguments.data]
    cameras = modalities["video"].modality_keys
    videos = sum(
        len(layout.videos(camera))
        for layout in layouts
        for camera in cameras
        if camera in layout.modality.cameras
    )
    with tqdm(total=videos, unit="video", desc="decoding") as bar:
        sets = [
            LeRobotDataset(
                *(folder, modalities, cache),
                frames=arguments.frames,
                rule=RULE_OF_BACKEND[arguments.video_backend],
                on_video=lambda: bar.update() and None,
            )
            for folder in arguments.data
        ]
    if len(sets) == 1:
        return sets[0]
    return DatasetMixture(
        sets,
        arguments.data_weights or None,
        balance_datasets=arguments.balance_dataset_weights is not False,
        balance_trajectories=arguments.balance_trajectory_weights is not False,
    )


def data_settings(arguments: TrainArguments) -> DataSettings:
    """How the demonstrations are read, as far as a run that goes on must agree in it."""
    mixture = {
        "data_weights": list(arguments.data_weights),
        "balanced": [
            arguments.balance_dataset_weights is not False,
            arguments.balance_trajectory_weights is not False,
        ],
    }
    return DataSettings(
        data_config=arguments.data_config,
        frame_rule=RULE_OF_BACKEND[arguments.video_backend],
        prompt_style=arguments.prompt_style,
        mixture=mixture if len(arguments.data) > 1 else {},
    )
