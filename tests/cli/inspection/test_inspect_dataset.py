"""scripts/inspect_dataset.py on sound and broken sets. Oracles: what was written, and what was broken."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gr00t.data.lerobot.check import find_faults
from gr00t.data.lerobot.writer import Demonstration, LeRobotWriter
from tests.data.lerobot.frames.test_image_columns import FRAMES, rows_of, set_images
from tests.data.lerobot.lerobot_sets import (
    MODALITY,
    as_v3,
    film,
    lines,
    set_info,
    set_lines,
    table,
    video,
    written,
)

Run = Callable[..., tuple[int, str, str]]


def test_a_sound_set_is_described_as_it_was_written(run: Run, made: Path) -> None:
    status, out, err = run(made, "--json")
    assert (status, err) == (0, "")
    told = json.loads(out)
    assert (told["usable"], told["faults"], told["remarks"]) == (True, [], [])
    assert (told["version"], told["robot"], told["fps"]) == ("v2.1", "panda", 20.0)
    assert (told["episodes"], told["readable_episodes"], told["rows"]) == (3, 3, 16)
    assert told["hours"] == pytest.approx(16 / 20 / 3600)
    assert told["lengths"] == {"shortest": 4, "median": 5.0, "longest": 7}
    camera = told["cameras"]["video.image"]
    assert [camera[name] for name in ("width", "height", "codec", "fps", "files", "frames")] == [
        *(32, 32, "h264", 20.0, 3, 16)
    ]
    assert camera["bytes"] == sum(video(made, episode).stat().st_size for episode in range(3))
    assert told["frame_cache"] == {"frames": 16, "bytes": 16 * 32 * 32 * 3}
    assert told["state"] == {
        "state.x": {
            **{"column": "observation.state", "start": 0, "end": 1, "width": 1},
            **{"rotation_type": None, "absolute": True, "dtype": "float64"},
        }
    }
    assert told["instructions"]["annotation.task"] == [
        {"text": "drop it", "rows": 7, "episodes": 1},
        {"text": "lift it", "rows": 5, "episodes": 1},
        {"text": "turn it", "rows": 4, "episodes": 1},
    ]
    (state,) = told["statistics"]["state.x"]
    values = np.arange(16.0)
    assert [state[name] for name in ("minimum", "maximum", "mean", "kind")] == [0, 15, 7.5, "usual"]
    assert state["q01"] == pytest.approx(np.quantile(values, 0.01))
    assert state["q99"] == pytest.approx(np.quantile(values, 0.99))


def test_people_are_told_the_same(run: Run, made: Path) -> None:
    status, out, _ = run(made)
    said = out.splitlines()
    assert status == 0
    assert said[0] == str(made)
    assert said[1:3] == [
        "  LeRobot v2.1, robot panda",
        "  3 episodes, 16 rows at 20 a second: 0.8 seconds; the shortest episode has 4, the median 5, "
        "the longest 7 rows",
    ]
    assert "  decoded, as training caches them: 16 frames, 49.2 kB" in said
    assert "       1 episodes,        7 rows  'drop it'" in said
    assert said[-1] == "No faults: it can be trained on."


def test_the_contact_sheet_shows_first_middle_and_last_row(run: Run, made: Path, tmp_path: Path) -> None:
    status, out, _ = run(made, "--output", tmp_path / "look")
    assert status == 0
    assert out.splitlines()[-2:] == [
        f"drawn: {tmp_path / 'look' / name}" for name in ("contact_sheet.png", "statistics.png")
    ]
    sheet = np.asarray(Image.open(tmp_path / "look/contact_sheet.png").convert("RGB")).astype(int)
    # The frames are grey squares of 320 pixels, and nothing else on the sheet is: brightness tells which row.
    shown = []
    for left in (24, 350, 676):
        column = sheet[:, left + 10 : left + 310]
        even = (column.max(axis=(1, 2)) - column.min(axis=(1, 2)) <= 3) & (column.mean(axis=(1, 2)) < 200)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], even.astype(int), [0]])))
        squares = [start for start, end in edges.reshape(-1, 2) if end - start == 320]
        shown.append([round((column[start + 160].mean() - 10) / 8) for start in squares])
    # Rows 0, 2, 4 of 5; 0, 3, 6 of 7; 0, 1, 3 of 4, counted through.
    assert shown == [[0, 5, 12], [2, 8, 13], [4, 11, 15]]
    statistics = np.asarray(Image.open(tmp_path / "look/statistics.png").convert("RGB"))
    assert statistics.shape[1] == pytest.approx(5 * 2.75 * 110, abs=2)
    assert len(np.unique(statistics.reshape(-1, 3), axis=0)) > 20


def odd_set(folder: Path) -> Path:
    """One episode of 200 rows: a number that never changes, one with an outlier, and one that moves."""
    moving = np.sin(np.arange(200) / 9)
    outlier = np.where(np.arange(200) == 7, 50.0, moving)
    state = np.stack([np.full(200, 3.0), outlier, moving], axis=1).astype(np.float32)
    frames = np.zeros((200, 32, 32, 3), dtype=np.uint8)
    modality = {
        **MODALITY,
        "state": {"arm": {"start": 0, "end": 3}},
        "action": {"arm": {"start": 0, "end": 3}},
    }
    LeRobotWriter(folder, modality, fps=20).add(Demonstration("go", state, state, {"image": frames}, {}))
    return folder


def test_flat_numbers_and_outliers_are_marked(run: Run, tmp_path: Path) -> None:
    status, out, _ = run(odd_set(tmp_path / "set"), "--json", "--output", tmp_path / "look")
    assert status == 0
    flat, outlier, moving = json.loads(out)["statistics"]["state.arm"]
    assert (flat["kind"], flat["remark"]) == ("flat", "always 3")
    assert outlier["kind"] == "outliers"
    # Of 51 between -1 and 50 the other rows take 2.
    assert outlier["remark"] == "98 % of all rows lie in 3.9 % of the range"
    assert (moving["kind"], moving["remark"]) == ("usual", "")
    pixels = np.asarray(Image.open(tmp_path / "look/statistics.png").convert("RGB")).reshape(-1, 3)
    for colour in ([0xC7, 0x77, 0x00], [0xB3, 0x26, 0x1E], [0x4C, 0x72, 0xB0]):
        assert (pixels == colour).all(axis=1).sum() > 20
    _, out, _ = run(tmp_path / "set")
    assert "  state.arm[0]: always 3" in out.splitlines()


def test_every_fault_is_told_at_once_and_what_is_left_is_shown(
    run: Run, folder: Path, tmp_path: Path
) -> None:
    with (folder / "meta/tasks.jsonl").open("a") as file:
        file.write('{"task_index": 0, "task": "another"}\n{"task_index": }\n')
    video(folder, 1).unlink()
    table(folder, 2).write_bytes(b"PAR1 no longer")
    status, out, _ = run(folder, "--json", "--output", tmp_path / "look")
    told = json.loads(out)
    assert (status, told["usable"]) == (1, False)
    assert told["faults"] == [str(fault) for fault in find_faults(folder)]
    faults = "\n".join(told["faults"])
    for place in (
        "tasks.jsonl, line 4",
        "tasks.jsonl, line 5",
        "episode_000001.mp4: not found",
        "_000002.parq",
    ):
        assert place in faults
    assert (told["episodes"], told["readable_episodes"]) == (3, 1)
    assert told["cameras"]["video.image"]["frames"] == 5
    assert [state["maximum"] for state in told["statistics"]["state.x"]] == [4.0]
    assert (tmp_path / "look/contact_sheet.png").is_file()


def test_a_folder_that_is_none_is_a_fault(run: Run, tmp_path: Path) -> None:
    status, out, _ = run(tmp_path / "nowhere", "--output", tmp_path / "look")
    assert status == 1
    assert out.splitlines() == [
        str(tmp_path / "nowhere"),
        "1 fault",
        f"  {tmp_path / 'nowhere'}: no such folder",
    ]


def test_videos_of_another_size_and_damaged_frames_are_faults(run: Run, folder: Path, tmp_path: Path) -> None:
    frames = np.zeros((7, 48, 64, 3), dtype=np.uint8)
    other = LeRobotWriter(tmp_path / "other", MODALITY, fps=20)
    rows = np.zeros((7, 1), dtype=np.float32)
    other.add(Demonstration("go", rows, rows, {"image": frames}, {}))
    shutil.copy(video(tmp_path / "other"), video(folder, 1))
    content = bytearray(video(folder, 2).read_bytes())
    start = content.index(b"mdat") + 4
    content[start : start + 400] = bytes(400)
    video(folder, 2).write_bytes(content)
    status, out, _ = run(folder, "--json", "--output", tmp_path / "look")
    faults = json.loads(out)["faults"]
    assert status == 1
    assert faults[0].endswith(
        "000001.mp4: video.image: frames of 64x48, those of the camera's first video are 32x32"
    )
    assert "episode_000002.mp4: " in "\n".join(faults[1:])
    assert (tmp_path / "look/contact_sheet.png").is_file()


def test_v3_sets_and_images_in_the_rows_are_shown_too(run: Run, folder: Path, tmp_path: Path) -> None:
    new = as_v3(folder, tmp_path / "v3")
    told = json.loads(run(new, "--json", "--output", tmp_path / "look")[1])
    assert (told["version"], told["episodes"], told["cameras"]["video.image"]["files"]) == ("v3.0", 3, 2)
    for name in ("contact_sheet.png", "statistics.png"):
        assert (tmp_path / "look" / name).stat().st_size > 1000
    pictures = written(tmp_path / "pictures", 3, 4)
    set_images(pictures, rows_of(FRAMES[:3]), 0)
    set_images(pictures, rows_of(FRAMES[3:]), 1)
    set_info(pictures, features={"observation.images.image": {"dtype": "image", "shape": [6, 8, 3]}})
    status, out, _ = run(pictures, "--json", "--output", tmp_path / "look")
    camera = json.loads(out)["cameras"]["video.image"]
    assert (status, camera["width"], camera["height"], camera["frames"]) == (0, 8, 6, 7)


def test_what_the_reader_warns_of_stands_with_the_rest(run: Run, folder: Path) -> None:
    film(video(folder, 0), [0, 50, 100, 150])  # of 5 rows
    status, out, err = run(folder)
    assert (status, err) == (0, "")
    assert "  video.image: 1 of 3 episodes have a last row behind the last frame of its video" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--data-config", "so10"], "error: data config 'so10': not registered; did you mean so100?"),
        (["--data-confg", "so100"], "--data-confg"),
        (["--output", "blocked/look"], "no results can be written to"),
    ],
)
def test_wrong_flags_have_a_status_of_their_own(
    run: Run, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "blocked").write_text("a file")
    status, out, err = run(made, *words)
    assert (status, said in err, out) == (2, True, "")


def test_a_package_that_is_missing_is_named_with_the_command(
    run: Run, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "av" else there(name))
    assert run(made) == (2, "", "error: av not installed; run: scripts/setup_env.sh train\n")


def test_an_episode_without_a_task_and_gaps_in_the_numbers_are_no_faults(run: Run, folder: Path) -> None:
    set_lines(folder, "episodes.jsonl", lines(folder, "episodes.jsonl")[1:])
    status, out, _ = run(folder, "--json")
    assert (status, json.loads(out)["episodes"]) == (0, 2)
