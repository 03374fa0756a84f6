"""Which frame a row sees. Oracle: videos of which every frame shows its own number, at times set here."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gr00t.data.dataset import ModalityConfig
from gr00t.data.lerobot.dataset import LeRobotDataset
from gr00t.data.lerobot.frames.frame_source import open_cameras
from gr00t.data.lerobot.frames.video_files import frame_times
from gr00t.data.lerobot.meta.faults import DatasetError
from gr00t.data.lerobot.rows.row_frames import RULE_OF_BACKEND, FrameRule, frames_of_rows
from gr00t.data.lerobot.writer import Demonstration, LeRobotWriter
from tests.data.lerobot.lerobot_sets import film, numbers, picture, table, video

MODALITY = {
    "state": {"x": {"start": 0, "end": 1}},
    "action": {"x": {"start": 0, "end": 1}},
    "video": {"image": {"original_key": "observation.images.image"}},
}
CONFIG = {
    "video": ModalityConfig(delta_indices=[0], modality_keys=["video.image"]),
    "state": ModalityConfig(delta_indices=[0], modality_keys=["state.x"]),
}
B_FRAMES = {"bf": "3", "g": "12", "b_strategy": "0", "sc_threshold": "0"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two episodes of 8 and 6 rows; frame i shows i, and 10 + i in the second."""
    writer = LeRobotWriter(tmp_path / "set", MODALITY, fps=20)
    for first, length in ((0, 8), (10, 6)):
        frames = np.stack([picture(first + number) for number in range(length)])
        numbers_ = np.arange(length, dtype=np.float32)[:, None]
        writer.add(Demonstration("lift it", numbers_, numbers_, {"image": frames}, {}))
    return tmp_path / "set"


def stamp(folder: Path, stamps: Any, episode: int = 0) -> None:
    """Give the rows of an episode other time stamps; None takes the column away."""
    content = pq.read_table(table(folder, episode)).drop_columns(["timestamp"])
    if stamps is not None:
        content = content.append_column("timestamp", pa.array(stamps))
    pq.write_table(content, table(folder, episode))


def seen(folder: Path, rule: FrameRule = "nearest") -> list[int]:
    dataset = LeRobotDataset(folder, CONFIG, folder.parent / "cache", rule=rule)
    return numbers(dataset.batch(list(range(len(dataset))))["video.image"])


def refusal(folder: Path) -> str:
    with pytest.raises(DatasetError) as error:
        seen(folder)
    return str(error.value)


def test_of_our_own_sets_row_i_sees_frame_i(folder: Path) -> None:
    assert seen(folder) == [*range(8), *range(10, 16)]


@pytest.mark.parametrize("fps", [1, 7, 10, 15, 20, 24, 25, 29.97, 30, 50, 60, 120])
def test_stamps_of_the_writer_choose_frame_i_at_every_rate(fps: float) -> None:
    rows = np.arange(5000)
    stamps = (rows.astype(np.float32) / np.float32(fps)).astype(np.float64)
    # What an mp4 can say: multiples of 1/12800 s and the like.
    times = np.round(rows / fps * 12800) / 12800
    chosen = frames_of_rows(stamps, times, 1 / fps, Path("t"), Path("v"))
    assert chosen.tolist() == rows.tolist()


@pytest.mark.parametrize(
    ("stamps", "nearest", "last"),
    [
        # As in NVIDIA's demonstrations, 20 frames a second: a little less than 1/20, 2/20, ...
        ([0.04999995, 0.0999999, 0.14999986, 0.19999981], [1, 2, 3, 4], [0, 1, 2, 3]),
        # float32 of 0/20, 1/20, 7/20, 8/20: the third is less than the fraction, the others are not.
        ([0.0, 0.05000000074505806, 0.3499999940395355, 0.4000000059604645], [0, 1, 7, 8], [0, 1, 6, 8]),
        ([0.0, 0.05, 0.1, 0.15], [0, 1, 2, 3], [0, 1, 2, 3]),
        ([0.01, 0.049, 0.12, 0.149], [0, 1, 2, 3], [0, 0, 2, 2]),
    ],
)
def test_a_stamp_means_a_frame_as_with_decord_or_as_with_torchcodec(
    stamps: list[float], nearest: list[int], last: list[int]
) -> None:
    """Oracle: what torchcodec 0.13 played at such stamps, and the nearest by hand."""
    times = np.arange(9) / 20
    for rule, expected in (("nearest", nearest), ("last", last)):
        chosen = frames_of_rows(np.asarray(stamps), times, 1 / 20, Path("t"), Path("v"), rule=rule)
        assert chosen.tolist() == expected
    assert {RULE_OF_BACKEND[name] for name in ("torchcodec", "torchvision_av")} == {"last"}
    assert {RULE_OF_BACKEND[name] for name in ("decord", "opencv")} == {"nearest"}


def test_a_set_is_read_by_the_rule_that_is_asked_for(folder: Path) -> None:
    stamp(folder, [row * 0.05 + 0.049 for row in range(8)])
    assert seen(folder) == [1, 2, 3, 4, 5, 6, 7, 7, *range(10, 16)]
    assert seen(folder, "last") == [*range(8), *range(10, 16)]


def test_stamps_that_start_a_step_later_see_the_next_frame(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stamp(folder, [(row + 1) * 0.05 for row in range(8)])
    with caplog.at_level(logging.WARNING):
        assert seen(folder) == [1, 2, 3, 4, 5, 6, 7, 7, *range(10, 16)]
    assert "video.image: 1 of 2 episodes have a last row behind the last frame" in caplog.text


@pytest.mark.parametrize(
    ("shift", "expected"),
    [
        (0.024, [0, 1, 2, 3, 4, 5, 6, 7]),  # before the middle
        (0.025, [0, 1, 2, 3, 4, 5, 6, 7]),  # in the middle: the earlier
        (0.026, [1, 2, 3, 4, 5, 6, 7, 7]),
        (-0.024, [0, 1, 2, 3, 4, 5, 6, 7]),
        (-0.026, [0, 0, 1, 2, 3, 4, 5, 6]),
    ],
)
def test_between_two_frames_the_nearer_one_is_seen(folder: Path, shift: float, expected: list[int]) -> None:
    stamp(folder, [row * 0.05 + shift for row in range(8)])
    assert seen(folder)[:8] == expected


@pytest.mark.parametrize(
    ("times", "options", "expected"),
    [
        (list(range(0, 400, 50)), B_FRAMES, [0, 1, 2, 3, 4, 5, 6, 7]),
        (list(range(700, 1100, 50)), {}, [0, 1, 2, 3, 4, 5, 6, 7]),  # starts at 0.7 s
        ([0, 50, 100, 200, 250, 300, 350], {}, [0, 1, 2, 2, 3, 4, 5, 6]),  # one frame dropped
        (list(range(0, 400, 25)), {}, [0, 2, 4, 6, 8, 10, 12, 14]),  # twice the rate
        (list(range(0, 500, 100)), {}, [0, 0, 1, 1, 2, 2, 3, 3]),  # half the rate
        ([0, 10, 100, 105, 190, 260, 300, 360], B_FRAMES, [0, 1, 2, 4, 4, 5, 6, 7]),
        (list(range(0, 350, 50)), {}, [0, 1, 2, 3, 4, 5, 6, 6]),  # one frame short
        (list(range(0, 600, 50)), {}, [0, 1, 2, 3, 4, 5, 6, 7]),  # longer than its rows
    ],
    ids=["B-frames", "later start", "dropped", "fast", "slow", "uneven", "short", "long"],
)
def test_frames_are_found_by_when_they_are_shown(
    folder: Path, times: list[int], options: dict[str, str], expected: list[int]
) -> None:
    film(video(folder), times, **options)
    assert frame_times(video(folder)) == pytest.approx((np.asarray(times) - times[0]) / 1000, abs=1e-4)
    assert seen(folder) == [*expected, *range(10, 16)]


def test_videos_with_b_frames_are_stored_in_another_order(folder: Path) -> None:
    film(video(folder), list(range(0, 400, 50)), **B_FRAMES)
    with av.open(str(video(folder))) as container:
        stored = [packet.pts for packet in container.demux(video=0) if packet.size]
    assert stored != sorted(stored)


@pytest.mark.parametrize(
    ("stamps", "problem"),
    [
        ([0, 0.05, float("nan"), *[0.2] * 5], "row 2: expected seconds, got nan"),
        ([0, 0.05, 0.1, None, *[0.2] * 4], "expected numbers, got nothing in row 3"),
        ([0, 0.05, 0.1, 0.15, float("inf"), *[0.2] * 3], "row 4: expected seconds, got inf"),
        ([str(row / 20) for row in range(8)], "expected numbers, got '0.0' in row 0"),
        ([False] * 8, "row 0: expected seconds, got False"),
        ([0.0] * 8, "row 1 is not later than the one before it: 0 s, then 0 s"),
        ([0, 0.05, 0.1, 0.05, 0.2, 0.25, 0.3, 0.35], "row 3 is not later than the one before it: 0.1 s"),
        ([row * 0.05 for row in reversed(range(8))], "row 1 is not later than the one before it: 0.35 s"),
    ],
)
def test_stamps_that_say_no_time_are_refused(folder: Path, stamps: list[Any], problem: str) -> None:
    stamp(folder, stamps)
    assert f"{table(folder)}: timestamp: {problem}" in refusal(folder)


@pytest.mark.parametrize(
    ("stamps", "row"),
    [
        ([row * 50 for row in range(8)], 1),  # milliseconds
        ([1.7e9 + row / 20 for row in range(8)], 0),  # since 1970
        ([-0.2 + row / 20 for row in range(8)], 0),
        ([*[row / 20 for row in range(7)], 0.46], 7),
        ([row / 10 for row in range(8)], 5),
    ],
)
def test_stamps_far_from_every_frame_are_refused(folder: Path, stamps: list[float], row: int) -> None:
    stamp(folder, stamps)
    message = refusal(folder)
    assert message.startswith(f"{table(folder)}: timestamp: row {row} is at {stamps[row]:g} s, the nearest")
    assert str(video(folder)) in message


def test_a_set_without_stamps_is_refused_unless_no_frame_is_needed(folder: Path) -> None:
    stamp(folder, None)
    assert f"{table(folder)}: no column 'timestamp'" in refusal(folder)
    blind = {"state": CONFIG["state"]}
    assert len(LeRobotDataset(folder, blind, folder.parent / "cache")) == 14


def test_stamps_of_one_entry_lists(folder: Path) -> None:
    stamp(folder, [[row / 20] for row in range(8)])
    assert seen(folder) == [*range(8), *range(10, 16)]
    stamp(folder, [[row / 20, 0.0] for row in range(8)])
    assert f"{table(folder, 1)}: timestamp: rows of one number, those of {table(folder)} of 2" in refusal(
        folder
    )


def test_frames_decoded_before_times_were_kept_serve_still(folder: Path) -> None:
    cache = folder.parent / "cache"
    seen(folder)
    (kept,) = cache.glob("frames-*.times.npz")
    kept.unlink()
    decoded: list[int] = []
    videos = {"video.image": [video(folder), video(folder, 1)]}
    open_cameras(videos, cache, on_video=lambda: decoded.append(1))
    assert (decoded, kept.is_file()) == ([], True)


@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_a_damaged_video_is_named(folder: Path, damage: str) -> None:
    path = video(folder)
    content = path.read_bytes()
    if damage == "cut":  # the table of frames stands at the end of the file
        path.write_bytes(content[: len(content) // 2])
    else:
        path.write_bytes(b"version https://git-lfs" if damage == "text" else b"")
    assert str(path) in refusal(folder)
    assert not list((folder.parent / "cache").glob("*"))


def test_what_the_descriptions_say_is_read_strictly(folder: Path) -> None:
    path = folder / "meta" / "modality.json"
    for entry, problem in [
        ({"start": "a", "end": 1}, "state.x: start: a valid integer, unable to parse string as an integer"),
        ({"start": 0, "end": 1.9}, "state.x: end: a valid integer, got a number with a fractional part"),
        ({"start": False, "end": 1}, "state.x: start: expected a number, got False"),
        ({"end": 1}, "state.x: start: Field required"),
        ({"start": 1, "end": 1}, "state.x: start 1 is not below end 1"),
        ({"start": 0, "end": 1, "absolute": 2}, "state.x: absolute: a valid boolean"),
        ({"start": 0, "end": 1, "original_key": 3}, "state.x: original_key: a valid string, got 3"),
        ("x", "state.x: expected an object, got 'x'"),
    ]:
        path.write_text(json.dumps({**MODALITY, "state": {"x": entry}}))
        assert f"{path}: {problem}" in refusal(folder)
    path.write_text(json.dumps(MODALITY).replace('"start": 0', '"start": NaN', 1))
    assert refusal(folder) == f"{path}: state.x: start: a finite number, got nan"
    path.write_text(json.dumps(MODALITY).replace('"start": 0', '"start": 0, "start": 1', 1))
    assert refusal(folder) == f"{path}: not a JSON file: an object has two entries 'start'"
    path.write_text(json.dumps(MODALITY))
    info = folder / "meta" / "info.json"
    content = json.loads(info.read_text())
    for fps in (0, -20, "20", True, None):
        info.write_text(json.dumps({**content, "fps": fps}))
        assert refusal(folder) == f"{info}: fps must be a positive number, got {fps!r}"


def test_two_tasks_of_one_number_are_refused(folder: Path) -> None:
    path = folder / "meta" / "tasks.jsonl"
    modality = {**MODALITY, "annotation": {"task": {"original_key": "task_index"}}}
    (folder / "meta" / "modality.json").write_text(json.dumps(modality))
    config = {**CONFIG, "language": ModalityConfig(delta_indices=[0], modality_keys=["annotation.task"])}
    path.write_text('{"task_index": 0, "task": "lift\u2028it"}\r\n\r\n')
    dataset = LeRobotDataset(folder, config, folder.parent / "cache")
    assert dataset.batch([0])["annotation.task"].tolist() == [["lift\u2028it"]]
    path.write_text('{"task_index": 0, "task": "lift it"}\n{"task_index": 0, "task": "drop it"}\n')
    with pytest.raises(DatasetError, match=r"tasks.jsonl, line 2: task 0 is both 'lift it' and 'drop it'"):
        LeRobotDataset(folder, config, folder.parent / "cache")


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ([[0.0]] * 7 + [[float("nan")]], "state.x: inf or nan in row 7"),
        ([[0.0]] * 7 + [[1e39]], "state.x: inf or nan in row 7"),
        ([[0.0]] * 7 + [[-1e31]], "state.x: a number beyond 1e+30 in row 7"),
        ([[0.0]] * 7 + [None], "observation.state: expected numbers, got nothing in row 7"),
        ([[0.0]] * 7 + [[0.0, 1.0]], "observation.state: row 7 has 2 numbers, those before have 1"),
        ([["0.0"]] * 8, "observation.state: expected numbers, got ['0.0'] in row 0"),
        ([0.0] * 7 + [None], "observation.state: expected numbers, got nothing in row 7"),
    ],
)
def test_rows_that_hold_no_numbers_are_named(folder: Path, values: list[Any], problem: str) -> None:
    content = pq.read_table(table(folder)).drop_columns(["observation.state"])
    pq.write_table(content.append_column("observation.state", pa.array(values)), table(folder))
    assert refusal(folder) == f"{table(folder)}: {problem}"
