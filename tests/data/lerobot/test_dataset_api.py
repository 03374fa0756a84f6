"""N1.5's classes of data sets over our reader. Oracle: the parquet files, and samples recorded from N1.5.

On NVIDIA's own demonstrations all 220 values of 11 samples, every pixel, the metadata and 400 draws of the
mixture were those of N1.5 with decord.
"""

from __future__ import annotations

import importlib
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from gr00t.data.dataset import (
    LE_ROBOT_MODALITY_FILENAME,
    LeRobotMixtureDataset,
    LeRobotSingleDataset,
    ModalityConfig,
)
from gr00t.data.embodiment_tags import EmbodimentTag
from gr00t.data.lerobot.described import statistical_values
from gr00t.data.lerobot.frames.video_files import read_video
from gr00t.data.lerobot.meta.faults import DatasetError
from gr00t.data.lerobot.writer import Demonstration, LeRobotWriter
from gr00t.data.transform.base import ComposedModalityTransform
from gr00t.data.transform.state_action import StateActionToTensor, StateActionTransform
from gr00t.utils.misc import any_describe
from gr00t.utils.video import get_all_frames, get_frames_by_indices, get_frames_by_timestamps
from tests.data.lerobot import lerobot_sets
from tests.data.lerobot.frames import test_image_columns

TEXT = "annotation.task"
CONFIG = {
    "video": ModalityConfig(delta_indices=[-1, 0], modality_keys=["video.image"]),
    "state": ModalityConfig(delta_indices=[0], modality_keys=["state.x", "state.hand"]),
    "action": ModalityConfig(delta_indices=[0, 1, 2], modality_keys=["action.x", "action.turn"]),
    "language": ModalityConfig(delta_indices=[0], modality_keys=[TEXT]),
}
MODALITY = {
    "state": {"x": {"start": 0, "end": 2}, "hand": {"start": 2, "end": 3}, "rest": {"start": 3, "end": 4}},
    "action": {"x": {"start": 0, "end": 1}, "turn": {"start": 1, "end": 3, "absolute": False}},
    "video": {"image": {"original_key": "observation.images.image"}},
    "annotation": {"task": {"original_key": "task_index"}},
}


def write(folder: Path, lengths: list[int]) -> Path:
    """Write a set of random numbers; frame i of an episode is grey, of brightness 8 i."""
    writer = LeRobotWriter(folder, MODALITY, fps=20)
    rng = np.random.default_rng(len(lengths))
    for episode, length in enumerate(lengths):
        state, action = (rng.normal(size=(length, width)).astype(np.float32) for width in (4, 3))
        frames = np.full((length, 32, 32, 3), (8 * np.arange(length) % 256)[:, None, None, None], np.uint8)
        writer.add(Demonstration(f"task {episode}", state, action, {"image": frames}, {}))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("sets") / "first", [20, 10])


@pytest.fixture
def dataset(folder: Path) -> LeRobotSingleDataset:
    return LeRobotSingleDataset(folder, CONFIG, "new_embodiment", video_backend="decord")


def stored(folder: Path, episode: int, column: str) -> np.ndarray:
    table = pq.read_table(folder / f"data/chunk-000/episode_{episode:06d}.parquet")
    return np.asarray(table[column].to_pylist(), dtype=np.float64)


def test_a_sample_is_what_the_files_hold(dataset: LeRobotSingleDataset, folder: Path) -> None:
    sample = dataset.get_step_data(1, 9)
    assert list(sample) == ["video.image", "state.x", "state.hand", "action.x", "action.turn", TEXT]
    state, action = (stored(folder, 1, name) for name in ("observation.state", "action"))
    assert {value.dtype for key, value in sample.items() if key[:5] in ("state", "actio")} == {np.dtype("f8")}
    assert sample["state.x"].tolist() == state[9:10, :2].tolist()
    assert sample["state.hand"].tolist() == state[9:10, 2:3].tolist()
    # Behind the end: the last position again, and no more turning.
    assert sample["action.x"].tolist() == action[[9, 9, 9], :1].tolist()
    assert sample["action.turn"].tolist() == [action[9, 1:].tolist(), [0.0, 0.0], [0.0, 0.0]]
    assert sample[TEXT] == ["task 1"]
    video = folder / "videos/chunk-000/observation.images.image/episode_000001.mp4"
    assert np.array_equal(sample["video.image"], np.stack(list(read_video(video)))[8:])
    before = dataset.get_step_data(0, 0)["video.image"]
    assert np.array_equal(before[0], before[1])
    assert (
        dataset.get_step_data(0, 25)["state.x"].tolist()
        == stored(folder, 0, "observation.state")[19:, :2].tolist()
    )


@pytest.mark.parametrize("kind", ["v2", "v3", "images"])
def test_every_sample_is_that_of_the_reader_for_training(tmp_path: Path, kind: str) -> None:
    path = lerobot_sets.written(tmp_path / "v2", 5, 3, 4)
    if kind == "images":
        for episode, length in enumerate((5, 3, 4)):
            rows = test_image_columns.rows_of(test_image_columns.FRAMES[:length])
            test_image_columns.set_images(path, rows, episode)
        feature = {"dtype": "image", "shape": [6, 8, 3], "names": ["height", "width", "channel"]}
        lerobot_sets.set_info(path, features={lerobot_sets.CAMERA: feature})
    elif kind == "v3":
        path = lerobot_sets.as_v3(path, tmp_path / "v3")
    expected = lerobot_sets.samples(path)
    dataset = LeRobotSingleDataset(path, lerobot_sets.CONFIG, "gr1")
    for index in range(12):
        for key, value in dataset[index].items():
            assert np.array_equal(np.asarray(value, expected[key].dtype), expected[key][index]), (index, key)
    assert len(dataset.get_trajectory_data(2)) == 4
    size = (8, 6) if kind == "images" else (32, 32)
    assert dataset.metadata.modalities.video["image"].resolution == size


def test_numbers_come_as_they_are_stored_not_rounded_to_float32(tmp_path: Path) -> None:
    folder = write(tmp_path / "double", [3])
    path = folder / "data/chunk-000/episode_000000.parquet"
    table = pq.read_table(path).drop_columns(["observation.state"])
    exact = [[0.1, 0.2, 0.3, 0.4]] * 3
    pq.write_table(table.append_column("observation.state", pa.array(exact)), path)
    dataset = LeRobotSingleDataset(folder, CONFIG, EmbodimentTag.GR1)
    assert dataset.get_step_data(0, 1)["state.x"].tolist() == [[0.1, 0.2]]


def test_what_programs_ask_of_it(
    dataset: LeRobotSingleDataset, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (len(dataset), str(dataset), dataset.tag) == (30, "first (30 steps)", "new_embodiment")
    assert (dataset.dataset_path, dataset.dataset_name) == (folder, "first")
    assert dataset.trajectory_ids.tolist() == [0, 1]
    assert dataset.trajectory_lengths.tolist() == [20, 10]
    assert dataset.all_steps[19:21] == [(0, 19), (1, 0)]
    assert dataset.modality_keys["action"] == ["action.x", "action.turn"]
    assert (dataset.delta_indices["video.image"].tolist(), dataset.max_delta_index) == ([-1, 0], 2)
    assert dataset.get_trajectory_index(1) == 1
    assert dataset.get_trajectory_data(1)["frame_index"].tolist() == list(range(10))
    assert dataset.curr_traj_data is None
    assert dataset[25]["state.x"].tolist() == dataset.get_step_data(1, 5)["state.x"].tolist()
    assert len(dataset.curr_traj_data) == 10
    with monkeypatch.context() as context:
        context.setitem(sys.modules, "pandas", None)
        with pytest.raises(ImportError, match=r"is a pandas\.DataFrame; pandas is not installed"):
            dataset.get_trajectory_data(1)
    video = dataset.get_data_by_modality(1, "video", "video.image", 5)
    assert np.array_equal(video, dataset.get_video(1, "video.image", 5))
    assert (folder / LE_ROBOT_MODALITY_FILENAME).is_file()
    assert dataset.lerobot_info_meta["fps"] == 20
    video = folder / "videos/chunk-000/observation.images.image/episode_000001.mp4"
    assert dataset.get_video_path(1, "image") == dataset.get_video_path(1, "video.image") == video
    with pytest.raises(DatasetError, match=r"no videos of 'video.imag'; did you mean video.image"):
        dataset.get_video_path(1, "imag")
    with pytest.raises(AttributeError, match=r"has no chunk_size of Isaac-GR00T N1.5; use get_video_path"):
        _ = dataset.chunk_size
    assert not hasattr(dataset, "anything")


class Praising(LeRobotSingleDataset):
    """Replaces a method and keeps tables, as subclasses of N1.5's class do."""

    def get_language(self, trajectory_id: int, key: str, base_index: int) -> list[str]:
        if self.curr_traj_data is None or self.curr_traj_id != trajectory_id:
            self.curr_traj_data = self.get_trajectory_data(trajectory_id)
            self.curr_traj_id = trajectory_id
        column = self.lerobot_modality_meta.annotation[key.removeprefix("annotation.")].original_key
        number = self.curr_traj_data[column][base_index].item()
        return [f"well done: {self.tasks.loc[[number]]['task'].tolist()[0]}"]


def test_a_subclass_may_replace_what_n1_5_lets_it(folder: Path) -> None:
    dataset = Praising(folder, CONFIG, "gr1")
    assert dataset[0][TEXT] == ["well done: task 0"]
    assert dataset[25][TEXT] == ["well done: task 1"]
    assert dataset.get_language(0, TEXT, 3) == ["well done: task 0"]
    assert (dataset.curr_traj_id, len(dataset.curr_traj_data)) == (0, 20)
    dataset.curr_traj_data = dataset.curr_traj_data.assign(task_index=1)
    assert dataset.get_step_data(0, 3)[TEXT] == ["well done: task 1"]
    assert dataset.lerobot_modality_meta.state["hand"].start == 2
    assert dataset.lerobot_modality_meta.video["image"].original_key == "observation.images.image"


def test_metadata_is_of_every_key_and_by_stats_json_where_that_is_complete(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", [6, 4])
    metadata = LeRobotSingleDataset(folder, CONFIG, "gr1").metadata
    rest = np.concatenate([stored(folder, n, "observation.state") for n in range(2)])[:, 3:]
    expected = statistical_values(rest.astype(np.float32))
    assert metadata.statistics.state["rest"].model_dump_json() == expected.model_dump_json()
    assert metadata.modalities.video["image"].resolution == (32, 32)
    assert (metadata.modalities.video["image"].fps, metadata.modalities.action["turn"].absolute) == (
        20,
        False,
    )
    numbers = {name: [float(place) for place in range(4)] for name in ("min", "mean", "max", "std")}
    stats = {name: numbers | {"q01": [0.0] * 4, "q99": [9.0] * 4} for name in ("observation.state", "action")}
    path = folder / "meta" / "stats.json"
    path.write_text(json.dumps(stats))
    metadata = LeRobotSingleDataset(folder, CONFIG, "gr1").metadata
    assert metadata.statistics.state["hand"].mean.tolist() == [2.0]
    path.write_text(json.dumps({"observation.state": numbers, "action": numbers}))  # LeRobot's own: no q01
    metadata = LeRobotSingleDataset(folder, CONFIG, "gr1").metadata
    assert metadata.statistics.state["rest"].model_dump_json() == expected.model_dump_json()
    path.write_text(json.dumps({**stats, "action": stats["action"] | {"std": [0.0, None, 0.0]}}))
    with pytest.raises(DatasetError, match=r"stats.json: action.std: expected finite numbers"):
        _ = LeRobotSingleDataset(folder, CONFIG, "gr1").metadata


def test_transforms_get_the_metadata_and_the_sample(folder: Path) -> None:
    keys = ["state.x"]
    steps = [
        StateActionToTensor(apply_to=keys),
        StateActionTransform(apply_to=keys, normalization_modes={"state.x": "mean_std"}),
    ]
    dataset = LeRobotSingleDataset(
        folder, CONFIG, "gr1", transforms=ComposedModalityTransform(transforms=steps)
    )
    known = dataset.metadata.statistics.state["x"]
    raw = dataset.get_step_data(0, 3)["state.x"]
    assert dataset[3]["state.x"].numpy() == pytest.approx((raw - known.mean) / known.std)


def test_workers_of_a_loader_read_what_one_process_reads(dataset: LeRobotSingleDataset) -> None:
    dataset[0]  # opened before the workers are forked
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=20
    )
    for index, sample in enumerate(loader):
        assert np.array_equal(sample["video.image"], dataset[index]["video.image"])
    assert index == 29
    again = pickle.loads(pickle.dumps(dataset))
    assert np.array_equal(again[4]["video.image"], dataset[4]["video.image"])


RECORDED = [  # by N1.5, of sets of these lengths: data set, episode, time step of samples 0 to 5
    ({"mode": "train"}, 0, 35, [(0, 1, 9), (0, 1, 2), (0, 1, 9), (0, 0, 2), (0, 1, 3), (0, 0, 5)]),
    ({"mode": "train"}, 2, 35, [(0, 1, 6), (0, 0, 5), (0, 1, 1), (1, 2, 3), (0, 0, 17), (0, 0, 0)]),
    (
        {
            "mode": "train",
            "seed": 7,
            "balance_dataset_weights": False,
            "balance_trajectory_weights": False,
        },
        2,
        45,
        [(0, 1, 1), (0, 1, 9), (0, 0, 2), (0, 1, 9), (0, 1, 3), (0, 1, 5)],
    ),
    ({"mode": "val"}, 2, 35, [(0, 0, 6), (0, 1, 0), (0, 0, 8), (0, 0, 3), (1, 2, 4), (0, 1, 4)]),
]


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("sets") / "second", [2, 3, 5])


@pytest.mark.parametrize(("arguments", "epoch", "length", "samples"), RECORDED)
def test_a_number_of_a_mixture_is_the_sample_that_it_is_in_n1_5(
    folder: Path, other: Path, arguments: dict[str, Any], epoch: int, length: int, samples: list[Any]
) -> None:
    sets = [LeRobotSingleDataset(path, CONFIG, "gr1") for path in (folder, other)]
    mixture = LeRobotMixtureDataset(list(zip(sets, [1.0, 0.5], strict=True)), **arguments)
    mixture.set_epoch(epoch)
    assert len(mixture) == length
    drawn = [mixture.sample_step(number) for number in range(6)]
    assert [(sets.index(one), int(trajectory), int(step)) for one, trajectory, step in drawn] == samples
    chosen, trajectory, step = samples[3]
    expected = sets[chosen].get_step_data(trajectory, step)["state.x"]
    assert mixture[3]["state.x"].tolist() == expected.tolist()
    merged = mixture.merged_metadata["gr1"].statistics.state["x"]
    assert merged.q01.tolist() == np.min([one.metadata.statistics.state["x"].q01 for one in sets], 0).tolist()


def test_what_is_wrong_is_named(folder: Path, other: Path, tmp_path: Path) -> None:
    def single(path: Path = folder, **arguments: Any) -> LeRobotSingleDataset:
        return LeRobotSingleDataset(path, CONFIG, **{"embodiment_tag": "gr1", **arguments})

    with pytest.raises(FileNotFoundError, match=r"Dataset path .*none does not exist"):
        single(folder / "none")
    with pytest.raises(ValueError, match="unknown embodiment tag 'gr2'; did you mean gr1"):
        single(embodiment_tag="gr2")
    with pytest.raises(ValueError, match="video_backend: unknown 'decrod'; did you mean decord"):
        single(video_backend="decrod")
    for name, problem in (("state.y", r"no 'state.y'"), ("actoin.x", r"no 'actoin.x'")):
        wrong = {**CONFIG, "state": ModalityConfig(delta_indices=[0], modality_keys=[name])}
        with pytest.raises(DatasetError, match=f"modality.json: {problem}"):
            LeRobotSingleDataset(folder, wrong, "gr1")
    with pytest.raises(ValueError, match=r"first: no episode 7; it has 2, numbered 0 to 1"):
        single().get_step_data(7, 0)
    with pytest.raises(ValueError, match=r"state: no key 'state.z'; did you mean state.x"):
        single().get_data_by_modality(0, "state", "state.z", 0)
    pair = [(single(), 1.0), (single(other), 0.5)]
    method = {"mode": "val", "metadata_config": {"percentile_mixing_method": "mean"}}
    for arguments, problem in (
        ({"mode": "trian"}, "mode: expected one of train, val, test, got 'trian'"),
        (method, "percentile_mixing_method: expected weighted_average or min_max, got 'mean'"),
    ):
        with pytest.raises(ValueError, match=problem):
            LeRobotMixtureDataset(pair, **arguments)
    for weight, problem in ((0.5, "one data set must have weight 1.0"), (-1.0, "weight -1.0: expected")):
        with pytest.raises(ValueError, match=problem):
            LeRobotMixtureDataset([(single(), weight)], "train")
    narrow = write(tmp_path / "narrow", [3])
    path = narrow / "meta" / "modality.json"
    path.write_text(path.read_text().replace('"end": 2', '"end": 1'))
    with pytest.raises(DatasetError, match=r"data sets 0 and 1 differ: state.x: shape \[2\] and \[1\]"):
        LeRobotMixtureDataset([(single(), 1.0), (single(narrow), 1.0)], "train")


def test_importing_the_configuration_imports_no_torch_and_no_pyarrow() -> None:
    code = (
        "import sys; import gr00t.data.dataset as d; d.ModalityConfig; d.LE_ROBOT_INFO_FILENAME\n"
        "print({'torch', 'pyarrow', 'av', 'pandas'} & set(sys.modules), hasattr(d, 'LeRobotSingelDataset'))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "set() False\n"


@pytest.mark.parametrize(
    ("module", "name", "instead"),
    [
        ("gr00t.data.dataset", "CachedLeRobotSingleDataset", "LeRobotSingleDataset"),
        ("gr00t.data.dataset", "MixtureSpecElement", "LeRobotMixtureDataset"),
        ("gr00t.utils.peft", "get_lora_model", "scripts/gr00t_finetune.py --lora-rank"),
        ("gr00t.experiment.runner", "TrainRunner", "scripts/gr00t_finetune.py"),
    ],
)
def test_names_of_n1_5_that_are_not_here_say_what_to_use(module: str, name: str, instead: str) -> None:
    found = importlib.import_module(module)
    with pytest.raises(ImportError, match=f"{module}: this project has no {name} .* N1.5; use {instead}"):
        getattr(found, name)
    assert not hasattr(found, "Something")


def test_descriptions_of_samples(capsys: pytest.CaptureFixture[str]) -> None:
    sample = {
        "a": np.zeros((2, 3), np.float32),
        "b": [torch.zeros(1), "text", None, 3],
        "c": (np.float64(1.5), {"d": np.asarray([7])}),
    }
    any_describe(sample, "sample")
    any_describe(np.zeros((2, 3)), shape_only=True)
    assert capsys.readouterr().out == (
        "sample: {'a': 'np: [2, 3] float32',\n"
        " 'b': ['torch scalar: 0.0 [1] torch.float32 cpu', 'text', 'None', 'int'],\n"
        " 'c': ('float64: 1.5', {'d': 'np scalar: 7 [1] int64'})}\n"
        "'np: [2, 3]'\n"
    )


def test_frames_of_a_video(folder: Path) -> None:
    path = folder / "videos/chunk-000/observation.images.image/episode_000001.mp4"
    frames = get_all_frames(str(path))
    assert np.array_equal(frames, np.stack(list(read_video(path))))
    assert np.array_equal(get_frames_by_indices(str(path), [3, 0, 3]), frames[[3, 0, 3]])
    assert np.array_equal(get_frames_by_timestamps(str(path), [0.0, 0.16, 9.0]), frames[[0, 3, 9]])
    assert get_all_frames(path, resize_size=(8, 4)).shape == (10, 4, 8, 3)
