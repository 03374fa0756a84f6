"""Sets as they are found: recorded by NVIDIA, filtered, edited by hand, half downloaded.

Oracle: what NVIDIA's N1.5 reader returns of the legal ones (run once on its own demonstrations, `robot_sim.
PickNPlace`: 410 arrays, 123 texts and 41 frames equal); of the others, what was done to them.
"""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gr00t.data.lerobot.check import find_faults
from gr00t.data.lerobot.dataset import LeRobotDataset
from gr00t.data.lerobot.faults import DatasetError
from gr00t.data.lerobot.video_files import write_video
from tests.data_pipeline.lerobot_sets import (
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
    set_modality,
    steps,
    table,
    video,
    written,
)

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab\nsize 12345\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("sets") / "set", 5, 3, 4)


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """Episodes 0, 1 and 2 of 5, 3 and 4 rows, to be changed."""
    return shutil.copytree(made, tmp_path / "set")


def test_a_set_of_the_shape_of_nvidias_demonstrations(folder: Path) -> None:
    # Two tasks an episode, texts by annotation columns, stamps at the end of each step, fps 20.0.
    set_lines(
        folder, "tasks.jsonl", [{"task_index": n, "task": t} for n, t in enumerate(["lift", "valid", "drop"])]
    )
    episodes = lines(folder, "episodes.jsonl")
    set_lines(folder, "episodes.jsonl", [{**line, "tasks": ["lift", "valid"]} for line in episodes])
    for index, (length, text) in enumerate([(5, 0), (3, 2), (4, 0)]):
        set_column(table(folder, index), "annotation.human.task", [text] * length)
        set_column(table(folder, index), "annotation.human.validity", [1] * length)
        set_column(table(folder, index), "timestamp", [0.0499999523 + row / 20 for row in range(length)])
    coarse = {"original_key": "annotation.human.task"}
    annotation = {"human.task": {}, "human.validity": {}, "human.coarse": coarse}
    set_modality(folder, annotation=annotation)
    set_info(folder, fps=20.0, codebase_version="v2.0")
    read = samples(folder, {**CONFIG, "language": steps(*(f"annotation.{name}" for name in annotation))})
    assert read["annotation.human.task"][:, 0].tolist() == ["lift"] * 5 + ["drop"] * 3 + ["lift"] * 4
    assert read["annotation.human.coarse"].tolist() == read["annotation.human.task"].tolist()
    assert set(read["annotation.human.validity"].ravel()) == {"valid"}
    assert numbers(read["video.image"]) == [1, 2, 3, 4, 4, 6, 7, 7, 9, 10, 11, 11]
    assert read["state.x"].ravel().tolist() == list(range(12))


@pytest.mark.parametrize("tasks", [["a", "b"], [], None, "a", 3])
def test_what_an_episode_lists_as_tasks_does_not_matter(folder: Path, tasks: Any) -> None:
    found = [
        {key: value for key, value in line.items() if key != "tasks"}
        for line in lines(folder, "episodes.jsonl")
    ]
    set_lines(
        folder, "episodes.jsonl", [line if tasks is None else {**line, "tasks": tasks} for line in found]
    )
    assert samples(folder)["annotation.task"][[0, 5, 8], 0].tolist() == ["lift it", "drop it", "turn it"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([2.0, 0.0, 1.0], ["turn it", "lift it", "drop it"]),  # as pandas writes a column that once had gaps
        ([[2], [0], [1]], ["turn it", "lift it", "drop it"]),
        (["pull", "push", "pull"], ["pull", "push", "pull"]),
        ([2.5, 0.0, 1.0], "expected a task number, got 2.5 in row 0"),
        ([2.0, float("nan"), 1.0], "expected a task number, got nan in row 1"),
        ([True, False, True], "expected one task number a row, got True"),
        (["pull", None, "pull"], "expected a text, got nothing in row 1"),
        ([2, 7, 1], "tasks.jsonl: no task 7, which annotation.task refers to"),
    ],
)
def test_columns_of_annotations(folder: Path, values: list[Any], expected: Any) -> None:
    set_lines(folder, "episodes.jsonl", lines(folder, "episodes.jsonl")[1:2])
    set_column(table(folder, 1), "task_index", values)
    if isinstance(expected, str):
        assert expected in refusal(folder)
    else:
        assert samples(folder)["annotation.task"][:, 0].tolist() == expected


def test_texts_and_numbers_are_not_mixed(folder: Path) -> None:
    set_column(table(folder, 1), "task_index", ["pull", "push", "pull"])
    problem = "annotation.task: task_index: expected task numbers as in the episodes before"
    assert refusal(folder) == f"{table(folder, 1)}: {problem}"
    # A column that is a state, too, holds numbers whatever else it is.
    set_modality(folder, state={"x": {"start": 0, "end": 1, "original_key": "task_index"}})
    assert refusal(folder) == f"{table(folder, 1)}: task_index: expected numbers, got 'pull' in row 0"


def test_instructions_follow_their_rows_and_time_steps(folder: Path) -> None:
    set_column(table(folder, 1), "task_index", [0, 2, 1])
    config = {"language": CONFIG["language"].model_copy(update={"delta_indices": [-1, 0, 1]})}
    read = samples(folder, config)["annotation.task"]
    assert read[5:8].tolist() == [
        ["lift it", "lift it", "turn it"],
        ["lift it", "turn it", "drop it"],
        ["turn it", "drop it", "drop it"],
    ]


def test_episodes_with_gaps_in_their_order(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, _, last = lines(folder, "episodes.jsonl")
    set_lines(folder, "episodes.jsonl", [last, first])
    read = samples(folder)
    assert read["state.x"].ravel().tolist() == [8, 9, 10, 11, 0, 1, 2, 3, 4]
    assert numbers(read["video.image"]) == [8, 9, 10, 11, 0, 1, 2, 3, 4]
    table(folder, 0).rename(table(folder, 1234567))
    video(folder, 0).rename(video(folder, 1234567))
    set_info(folder, chunks_size=2000000)
    set_lines(folder, "episodes.jsonl", [last, {**first, "episode_index": 1234567, "length": 5.0}])
    assert samples(folder)["state.x"].ravel().tolist() == [8, 9, 10, 11, 0, 1, 2, 3, 4]
    set_lines(folder, "episodes.jsonl", [last, {**first, "length": 0}])
    with caplog.at_level(logging.WARNING):
        assert len(opened(folder)) == 4
    assert "1 episodes have no row and are left out" in caplog.text


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (
            '{"episode_index": 1, "length": 3}\n{"episode_index": 1, "length": 3}',
            "line 2: episode 1 is listed twice",
        ),
        (
            '{"episode_index": 1.5, "length": 3}',
            "line 1: episode_index: expected a whole number of at least 0, got 1.5",
        ),
        ('{"episode_index": true, "length": 3}', "line 1: episode_index: expected a whole number"),
        ('{"episode_index": 1}', "line 1: length: expected a whole number of at least 0, got nothing"),
        ("\n\n[1]", "line 3: expected an object, got list"),
        (
            '{"episode_index": 1, "length": 3}\n{"episode_index": 2',
            "line 2: not JSON: Expecting ',' delimiter at",
        ),
        (
            '{"episode_index": 1, "length": NaN}',
            "line 1: length: expected a whole number of at least 0, got nan",
        ),
        ("{'episode_index': 1}", "line 1: not JSON: Expecting property name enclosed in double quotes"),
        ("\x00" * 8, "line 1: not JSON: Expecting value at character 1"),
    ],
)
def test_lines_that_say_nothing_are_named(folder: Path, content: str, problem: str) -> None:
    path = folder / "meta" / "episodes.jsonl"
    path.write_text(content)
    assert refusal(folder).startswith(f"{path}, {problem}")


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.replace("\n", "\r").encode(),
        lambda text: ("\n \n" + text.replace("\n", "\n\n\n")).encode(),
        lambda text: text.replace("}\n", "},\n").encode(),
        lambda text: text.replace("}\n", ", }\n").encode(),
        lambda text: text.rstrip("\n").encode(),
    ],
    ids=["mark", "CRLF", "CR", "blank lines", "comma behind", "comma within", "no last line end"],
)
def test_what_editors_do_to_json_changes_nothing(folder: Path, edit: Any) -> None:
    text = "put \u2028 [it, ] down,}"  # characters that matter elsewhere, within a text
    set_lines(folder, "tasks.jsonl", [{"task_index": n, "task": text} for n in range(3)])
    for path in (folder / "meta").glob("*.jsonl"):
        path.write_bytes(edit(path.read_text().replace("\\u2028", "\u2028")))
    modality = folder / "meta" / "modality.json"
    modality.write_bytes(edit(modality.read_text()))
    assert samples(folder)["annotation.task"][:, 0].tolist() == [text] * 12


def test_not_a_number_where_no_number_is_needed(folder: Path) -> None:
    listed = [{**line, "score": float("nan")} for line in lines(folder, "episodes.jsonl")]
    set_lines(folder, "episodes.jsonl", listed)
    assert "NaN" in (folder / "meta" / "episodes.jsonl").read_text()
    assert len(opened(folder)) == 12


def test_text_in_another_encoding_is_named(folder: Path) -> None:
    path = folder / "meta" / "modality.json"
    path.write_text(path.read_text(), encoding="utf-16")
    assert refusal(folder) == f"{path}: not UTF-8 text but UTF-16; save it as UTF-8"


def test_videos_shorter_and_longer_than_their_rows_are_told_once(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    film(video(folder, 0), [0, 50, 100, 150])
    film(video(folder, 1), [0, 50, 100, 150, 200], first=5)
    film(video(folder, 2), [0, 50, 100], first=8)
    with caplog.at_level(logging.WARNING):
        assert numbers(samples(folder)["video.image"]) == [0, 1, 2, 3, 3, 5, 6, 7, 8, 9, 10, 10]
    told = [record.getMessage() for record in caplog.records if "episodes" in record.getMessage()]
    start = f"{folder}: video.image:"
    assert told == [
        f"{start} 2 of 3 episodes have a last row behind the last frame of its video, which it sees: "
        "episode_000000.mp4, episode_000002.mp4",
        f"{start} 1 of 3 episodes have a video that goes on after their last row, which no row sees: "
        "episode_000001.mp4",
    ]


def test_everything_that_is_wrong_is_listed_at_once(folder: Path, made: Path) -> None:
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
    shutil.copyfile(video(made, 2), video(folder, 2))
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


def test_changes_are_zero_before_and_after_an_episode_in_states_too(folder: Path) -> None:
    set_modality(folder, state={"x": {"start": 0, "end": 1, "absolute": False}})
    config = {"state": CONFIG["state"].model_copy(update={"delta_indices": [-1, 0, 1]})}
    read = samples(folder, config)["state.x"][:, :, 0]
    assert read[5].tolist() == [0, 5, 6]
    assert read[7].tolist() == [6, 7, 0]


def test_depth_maps_and_sound_are_left_alone(folder: Path) -> None:
    path = folder / "meta" / "info.json"
    features = json.loads(path.read_text())["features"]
    depth = {"dtype": "video", "shape": [32, 32, 1], "info": {"video.is_depth_map": True}}
    sound = {"dtype": "audio", "shape": [1]}
    set_info(folder, features={**features, "observation.images.depth": depth, "observation.audio.mic": sound})
    assert find_faults(folder) == []
    (folder / "meta" / "modality.json").unlink()
    assert find_faults(folder) == []
    message = refusal(folder, {"video": steps("video.depth")})
    assert "there are state.state, action.action, video.image, annotation.human" in message
