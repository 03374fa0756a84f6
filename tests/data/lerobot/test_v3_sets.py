"""LeRobot's v3 layout. Oracle: the same episodes in the v2 layout, and what was written into them."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gr00t.data.embodiment_tags import EmbodimentTag
from gr00t.data.lerobot.check import find_faults
from tests.data.lerobot.lerobot_sets import (
    CAMERA,
    CONFIG,
    as_v3,
    numbers,
    opened,
    refusal,
    samples,
    set_column,
    set_info,
    steps,
    written,
)


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Three episodes in the v2 layout, and in v3 with two in a file."""
    folder = written(tmp_path_factory.mktemp("sets") / "v2", 5, 7, 4)
    return folder, as_v3(folder, folder.parent / "v3")


@pytest.fixture
def folder(twins: tuple[Path, Path], tmp_path: Path) -> Path:
    """The v3 set, to be changed."""
    return shutil.copytree(twins[1], tmp_path / "v3")


def episodes(folder: Path) -> Path:
    return folder / "meta/episodes/chunk-000/file-000.parquet"


def test_samples_and_metadata_are_those_of_the_v2_twin(twins: tuple[Path, Path]) -> None:
    old, new = (samples(folder) for folder in twins)
    for key, values in old.items():
        assert np.array_equal(values, new[key]), key
    assert numbers(new["video.image"]) == list(range(16))
    assert new["annotation.task"][:, 0].tolist() == ["lift it"] * 5 + ["drop it"] * 7 + ["turn it"] * 4
    described = [opened(folder).metadata(EmbodimentTag.NEW_EMBODIMENT) for folder in twins]
    assert described[0].model_dump(mode="json") == described[1].model_dump(mode="json")


def test_files_are_decoded_once_though_episodes_share_them(folder: Path) -> None:
    assert len(opened(folder).layout.videos("video.image")) == 2
    assert [clip.start for clip in opened(folder).layout.clips("video.image")] == [0.0, 0.25, 0.0]


def test_episodes_are_those_that_are_listed_and_rows_are_found_by_their_number(folder: Path) -> None:
    # Filtered and unordered, as after a selection; and one of LeRobot's converters wrote the number of the
    # file before for an episode's rows, which its own reader does not look at.
    listed = pq.read_table(episodes(folder)).take([2, 0])
    pq.write_table(listed, episodes(folder))
    set_column(episodes(folder), "data/file_index", [0, 0])
    read = samples(folder)
    assert read["state.x"][:, 0, 0].tolist() == [12, 13, 14, 15, 0, 1, 2, 3, 4]
    assert numbers(read["video.image"]) == [12, 13, 14, 15, 0, 1, 2, 3, 4]


def test_without_modality_json_there_are_whole_vectors_and_all_cameras(folder: Path) -> None:
    (folder / "meta" / "modality.json").unlink()
    names = ("video.image", "state.state", "action.action", "annotation.human.task_description")
    config = dict(zip(("video", "state", "action", "language"), map(steps, names), strict=True))
    read = samples(folder, config)
    assert read["state.state"][:, 0, 0].tolist() == list(range(16))
    assert numbers(read["video.image"]) == list(range(16))
    features = json.loads((folder / "meta" / "info.json").read_text())["features"]
    features["action"]["names"] = ["reach"]
    features["observation.state"]["names"] = {"motors": ["reach"]}  # as older recordings have it
    set_info(folder, features=features)
    message = refusal(folder)
    assert message.endswith("; observation.state is 1 wide: reach; action is 1 wide: reach")
    assert message.startswith(
        f"{folder / 'meta/modality.json'}: not found, and without it there is no 'state.x'"
    )
    assert 'such as {"state": {"x": {"start": 0, "end": 1}}' in message
    assert "there are state.state, action.action, video.image, annotation.human.task_description" in message


@pytest.mark.parametrize(
    ("column", "values", "problem"),
    [
        ("episode_index", [0, 1, 1], "row 2: episode 1 is listed twice"),
        ("length", [5, None, 4], "row 1: length: expected a whole number of at least 0, got None"),
        ("data/file_index", None, "no column 'data/file_index'; did you mean data/chunk_index?"),
        (f"videos/{CAMERA}/from_timestamp", [0.0, float("nan"), 0.0], f"row 1: {CAMERA}: expected seconds"),
        (
            f"videos/{CAMERA}/from_timestamp",
            [0.0, 9.0, 0.0],
            f"row 1: {CAMERA}: from 9 s is not before 0.6 s",
        ),
        (f"videos/{CAMERA}/file_index", None, f"says nothing of '{CAMERA}'"),
    ],
)
def test_descriptions_that_say_no_place_are_named(folder: Path, column, values, problem: str) -> None:
    set_column(episodes(folder), column, values)
    assert problem in refusal(folder)


def test_a_set_whose_list_of_episodes_is_not_there_is_named(folder: Path) -> None:
    episodes(folder).unlink()
    assert refusal(folder) == f"{folder / 'meta/episodes'}: has no parquet file; the v3 layout needs one"


def test_parts_of_videos_that_are_not_there_are_named(folder: Path) -> None:
    set_column(episodes(folder), f"videos/{CAMERA}/from_timestamp", [0.0, 3.0, 0.0])
    set_column(episodes(folder), f"videos/{CAMERA}/to_timestamp", [0.25, 3.35, 0.2])
    video = folder / f"videos/{CAMERA}/chunk-000/file-000.mp4"
    assert f"{video}: an episode begins at 3 s and ends at 3.35 s, but it has none there" in refusal(folder)


def test_rows_that_belong_to_no_listed_length_are_named(folder: Path) -> None:
    set_column(episodes(folder), "length", [5, 6, 4])
    data = folder / "data/chunk-000/file-000.parquet"
    assert refusal(folder) == f"{data}: episode 1: 7 rows, its episode has 6"
    set_column(episodes(folder), "episode_index", [0, 7, 2])
    assert refusal(folder) == f"{data}: has no row of episode 7, nor has another file of the set"


def test_rows_that_name_no_episode_are_named(folder: Path) -> None:
    data = folder / "data/chunk-000/file-000.parquet"
    set_column(data, "episode_index", [[0, 1]] * 12)
    assert refusal(folder) == f"{data}: episode_index: expected one number a row, got [0, 1]"
    set_column(data, "episode_index", None)
    assert refusal(folder).startswith(f"{data}: no column 'episode_index'; did you mean task_index? it has ")
    pq.write_table(pq.read_table(data).slice(0, 0), data)
    set_column(data, "episode_index", pa.array([], pa.int64()))
    assert f"{data}: has no row of episode 0, nor has another file of the set" in refusal(folder)


def test_an_episode_whose_clip_ends_early_repeats_its_own_last_frame(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Not the first frame of the episode behind it in the file.
    set_column(episodes(folder), f"videos/{CAMERA}/to_timestamp", [0.2, 0.6, 0.2])
    with caplog.at_level(logging.WARNING):
        assert numbers(samples(folder)["video.image"])[:6] == [0, 1, 2, 3, 3, 5]
    assert (
        "1 of 3 episodes have a last row behind the last frame of its video, which it sees: episode 0"
        in caplog.text
    )


@pytest.mark.parametrize("drift", [-0.02, 0.02])
def test_times_that_were_added_up_may_be_a_little_off(folder: Path, drift: float) -> None:
    # By less than half a frame, 0.025 s.
    set_column(episodes(folder), f"videos/{CAMERA}/from_timestamp", [0.0, 0.25 + drift, 0.0])
    set_column(episodes(folder), f"videos/{CAMERA}/to_timestamp", [0.25 + drift, 0.6 + drift, 0.2])
    assert numbers(samples(folder)["video.image"]) == list(range(16))


def test_tasks_with_a_named_index_and_without_one(folder: Path) -> None:
    tasks = folder / "meta" / "tasks.parquet"
    pq.write_table(pa.table({"task": ["a", "b", "c"], "task_index": [2, 1, 0]}), tasks)
    assert samples(folder)["annotation.task"][[0, 15], 0].tolist() == ["c", "a"]
    pq.write_table(pa.table({"name": ["a"]}), tasks)
    assert refusal(folder) == f"{tasks}: expected columns task_index and task, got name"


@pytest.mark.parametrize(
    ("version", "problem"),
    [
        ("v2.1", "codebase_version 'v2.1', but episodes is of the v3 layout"),
        ("v1.6", "LeRobot's v2 and v3 layouts are read; convert it with lerobot 0.3: python -m lerobot.data"),
        ("v4.0", "codebase_version 'v4.0'; LeRobot's v2 and v3 layouts are read"),
        ("none", "codebase_version 'none'; LeRobot's v2 and v3 layouts are read"),
        (3, "no fault"),
        (None, "no fault"),
    ],
)
def test_versions(folder: Path, version: object, problem: str) -> None:
    set_info(folder, codebase_version=version)
    found = [str(fault) for fault in find_faults(folder, CONFIG)] or ["no fault"]
    assert problem in found[0]
    assert len(found) == 1


def test_a_v1_set_is_refused_naming_the_converter(tmp_path: Path) -> None:
    (tmp_path / "meta_data").mkdir()
    (fault,) = find_faults(tmp_path)
    assert fault.what == "a data set in LeRobot's v1 layout (meta_data/)"
    assert "lerobot.datasets.v2.convert_dataset_v1_to_v2" in fault.helps
