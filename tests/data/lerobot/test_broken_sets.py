"""Sets with faults. Oracle: what was done to them; everything that was is to be told at once."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gr00t.data.lerobot.check import find_faults
from gr00t.data.lerobot.dataset import LeRobotDataset
from gr00t.data.lerobot.frames.video_files import write_video
from gr00t.data.lerobot.meta.faults import DatasetError
from tests.data.lerobot.lerobot_sets import (
    CONFIG,
    film,
    lines,
    numbers,
    opened,
    refusal,
    samples,
    set_column,
    set_info,
    set_lines,
    steps,
    table,
    video,
)

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab\nsize 12345\n"


@pytest.fixture
def folder(three_episodes: Path, tmp_path: Path) -> Path:
    """Episodes 0, 1 and 2 of 5, 3 and 4 rows, to be changed."""
    return shutil.copytree(three_episodes, tmp_path / "set")


def test_everything_that_is_wrong_is_listed_at_once(folder: Path, three_episodes: Path) -> None:
    video(folder, 0).write_bytes(video(folder, 0).read_bytes()[:700])
    film(video(folder, 1), [0], first=5)
    video(folder, 2).unlink()
    set_column(table(folder, 1), "observation.state", [[0.0], [float("nan")], [float("inf")]])
    (folder / "meta" / "tasks.jsonl").write_text(
        '{"task_index": 0, "task": "lift it"}\n{"task_index": "1"}\n'
    )
    found = {(fault.file.name, fault.place) for fault in find_faults(folder)}
    assert found == {
        ("episode_000001.parquet", ""),
        ("tasks.jsonl", "line 2"),
        ("episode_000002.mp4", ""),
    }
    video(folder, 2).write_bytes(b"")
    with pytest.raises(DatasetError) as error:
        opened(folder)
    assert str(error.value).startswith(
        f"{folder}: 3 faults\n  {table(folder, 1)}: state.x: inf or nan in row 1, and"
    )
    assert [fault.file.name for fault in error.value.faults][-1] == "episode_000002.mp4"
    # What is behind a fault shows when that is mended.
    shutil.copyfile(video(three_episodes, 2), video(folder, 2))
    message = refusal(folder, {"video": steps("video.image")})
    assert f"{video(folder, 0)}: cannot be read as a video" in message


def test_videos_that_cannot_be_read_are_all_listed(folder: Path) -> None:
    for index in (0, 2):
        video(folder, index).write_bytes(video(folder, index).read_bytes()[:700])
    message = refusal(folder)
    assert message.count("cannot be read as a video") == 2
    film(video(folder, 0), [0])
    film(video(folder, 2), [0], first=8)
    message = refusal(folder)
    assert message.startswith(
        f"{folder}: 2 faults\n  {table(folder, 0)}: timestamp: row 2 is at 0.1 s, the nearest"
    )
    assert f"{table(folder, 2)}: timestamp: row 2 is at 0.1 s" in message
    assert message.count("or leave the episode out: take its line from meta/episodes.jsonl") == 2


def test_videos_of_which_frames_are_damaged_are_all_listed(folder: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    for index, length in ((0, 5), (2, 4)):
        write_video(video(folder, index), noise[:length], 20)
        content = video(folder, index).read_bytes()
        start = content.index(b"mdat")
        middle = start + int.from_bytes(content[start - 4 : start], "big") * 2 // 5
        video(folder, index).write_bytes(content[:middle] + bytes(300) + content[middle + 300 :])
    assert find_faults(folder) == []  # which decodes nothing
    message = refusal(folder)
    damage = "1 frames are damaged, the first of them frame 1; download it again"
    assert message.startswith(f"{video(folder).parent}: 2 faults\n  {video(folder, 0)}: {damage}")
    assert message.endswith(f"\n  {video(folder, 2)}: {damage}")
    assert not list((folder.parent / "cache").glob("*.npy"))
    with pytest.raises(DatasetError, match=damage):  # some frames are decoded to measure what that takes
        LeRobotDataset(folder, CONFIG, folder.parent / "cache", frames="decode")


def test_a_format_that_nothing_decodes_is_named(folder: Path) -> None:
    content = video(folder, 1).read_bytes()
    assert content.count(b"avc1") == 2  # of the file and of the stream
    video(folder, 1).write_bytes(content.replace(b"avc1", b"zzzz"))
    expected = f"{video(folder, 1)}: is in a format that nothing here decodes"
    assert refusal(folder) == expected
    assert [str(fault) for fault in find_faults(folder)] == [expected]


def test_a_long_list_is_cut_short(folder: Path) -> None:
    set_lines(folder, "episodes.jsonl", [{"episode_index": n, "length": 1} for n in range(100, 130)])
    message = refusal(folder)
    assert message.startswith(f"{folder}: 60 faults\n")
    assert message.endswith("\n  ... and 40 more")
    assert message.count("\n") == 21
    assert len(find_faults(folder)) == 60


@pytest.mark.parametrize("which", ["parquet", "mp4", "json", "jsonl"])
def test_git_lfs_pointers_are_told_from_files(folder: Path, which: str) -> None:
    path = {
        "parquet": table(folder),
        "mp4": video(folder),
        "json": folder / "meta" / "info.json",
        "jsonl": folder / "meta" / "episodes.jsonl",
    }[which]
    path.write_text(POINTER)
    expected = f"{path}: is a Git LFS pointer, not the file itself; run `git lfs pull` in {folder}"
    assert refusal(folder) == expected


def test_links_to_nothing_and_missing_files_are_told_apart(folder: Path) -> None:
    path = table(folder)
    path.unlink()
    assert refusal(folder) == f"{path}: not found"
    path.symlink_to("../../../blobs/4d7a214614ab")
    assert refusal(folder) == (
        f"{path}: is a link to ../../../blobs/4d7a214614ab, which is not there; download it again"
    )
    path.unlink()
    path.mkdir()
    assert refusal(folder) == f"{path}: cannot be read: Is a directory"
    path.rmdir()
    os.mkfifo(path)  # whoever opens it waits for a writer
    assert refusal(folder) == f"{path}: is no regular file"


@pytest.mark.parametrize(
    ("key", "pattern", "problem"),
    [
        (
            "data_path",
            "data/{episode}.parquet",
            "KeyError('episode'); a path with the fields episode_chunk, ep",
        ),
        ("data_path", 3, "data_path: got 3; a path with the fields"),
        (
            "data_path",
            "data/chunk-000/episode_000000.parquet",
            "which is one file for several; a path with the f",
        ),
        (
            "video_path",
            "videos/{episode_chunk:03d}.mp4",
            "which is one file for several; a path with the field",
        ),
        ("data_path", "data/{episode_index}\x00", "cannot be read: embedded null byte"),
        ("video_path", "videos/{", "got 'videos/{': ValueError("),
    ],
)
def test_path_patterns(folder: Path, key: str, pattern: Any, problem: str) -> None:
    set_info(folder, **{key: pattern})
    assert problem in refusal(folder)


def test_what_is_no_text_inside_of_files_is_no_error_of_ours(folder: Path) -> None:
    # Found by changing bytes at random: the name of a column, and a remark in a video.
    path = table(folder, 1)
    path.write_bytes(path.read_bytes().replace(b"frame_index", b"frame_\xff\xfedex"))
    assert refusal(folder).startswith(f"{path}: cannot be read as parquet: ")
    shutil.copyfile(table(folder, 0), path)
    set_lines(folder, "episodes.jsonl", lines(folder, "episodes.jsonl")[:1])
    content = video(folder, 0).read_bytes()
    assert b"VideoHandler" in content
    video(folder, 0).write_bytes(content.replace(b"VideoHandler", b"Vid\xb0\xb0Handler"))
    assert numbers(samples(folder)["video.image"]) == [0, 1, 2, 3, 4]


def test_a_folder_of_sets_names_them(folder: Path) -> None:
    (fault,) = find_faults(folder.parent)
    assert fault.helps == "the folder holds data sets: set"
    (fault,) = find_faults(Path("somebody/set"))
    assert str(fault) == (
        "somebody/set: no such folder; download a set of the hub first: hf download --repo-type dataset "
        "somebody/set --local-dir FOLDER"
    )
    (fault,) = find_faults(folder / "meta" / "info.json")
    assert fault.what == "is not a folder"


def test_rows_of_another_count_or_damaged_files(folder: Path) -> None:
    set_lines(folder, "episodes.jsonl", [{**line, "length": 9} for line in lines(folder, "episodes.jsonl")])
    table(folder, 1).write_bytes(table(folder, 1).read_bytes()[:-100])
    message = refusal(folder)
    assert f"{table(folder, 0)}: 5 rows, its episode has 9" in message
    assert f"{table(folder, 1)}: cannot be read as parquet" in message
    assert f"{table(folder, 2)}: 4 rows, its episode has 9" in message
