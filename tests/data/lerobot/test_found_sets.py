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

import av
import numpy as np
import pytest

from gr00t.data.dataset import LeRobotSingleDataset
from gr00t.data.lerobot.check import find_faults
from gr00t.data.lerobot.dataset import LeRobotDataset
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
    set_modality,
    steps,
    table,
    video,
)


@pytest.fixture
def folder(three_episodes: Path, tmp_path: Path) -> Path:
    """Episodes 0, 1 and 2 of 5, 3 and 4 rows, to be changed."""
    return shutil.copytree(three_episodes, tmp_path / "set")


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
    caplog.clear()
    dataset = LeRobotSingleDataset(folder, CONFIG, "gr1", video_backend="decord")
    with caplog.at_level(logging.WARNING):
        assert [numbers(dataset[row]["video.image"])[0] for row in (4, 11)] == [3, 10]
    assert [record.getMessage()[-18:] for record in caplog.records] == ["episode_000000.mp4"]


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


def test_videos_are_turned_as_they_are_to_be_seen(folder: Path) -> None:
    # Oracle: the pixels as they were filmed, and FFmpeg's word for a quarter turn clockwise.
    upper = np.zeros((32, 32, 3), dtype=np.uint8)
    upper[:16] = 255
    with av.open(str(video(folder)), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=20, options={"crf": "10"})
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        stream.set_display_rotation(-90)
        for frame in [av.VideoFrame.from_ndarray(np.ascontiguousarray(np.rot90(upper)), format="rgb24")] * 4:
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    cached = samples(folder)["video.image"][:4, 0]
    decoded = LeRobotDataset(folder, CONFIG, folder.parent / "none", frames="decode").batch(range(4))
    for seen in (cached, decoded["video.image"][:, 0]):
        assert (seen[:, :15].min() > 200, seen[:, 17:].max() < 50) == (True, True)


def test_a_relative_folder_whose_name_looks_like_a_protocol(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    folder.rename("file:set")
    assert numbers(samples(Path("file:set"))["video.image"][:, 0]) == list(range(12))
