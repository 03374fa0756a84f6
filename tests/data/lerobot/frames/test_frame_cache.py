"""Where frames come from. Oracle: the same videos read from their start, frame for frame, bit for bit."""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from gr00t.data.lerobot.frames import seekable_video, video_files
from gr00t.data.lerobot.frames.camera_frames import CameraFrames
from gr00t.data.lerobot.frames.frame_cache import StoredFrames
from gr00t.data.lerobot.frames.frame_source import open_cameras, size
from gr00t.data.lerobot.frames.frames_on_demand import DecodedFrames
from gr00t.data.lerobot.frames.seekable_video import SeekableVideo
from gr00t.data.lerobot.frames.source_names import FrameSource
from gr00t.data.lerobot.frames.video_files import all_frame_times, frame_packets, read_video, write_video
from gr00t.data.lerobot.meta.layout import DatasetError
from gr00t.files.atomic import unfinished

SIDE = 64
BYTES = SIDE * SIDE * 3
# Groups of pictures that no reader may enter carelessly: see `seekable_video`.
KINDS = {
    "each": {"g": "1"},
    "one key frame": {"g": "250"},
    "B-frames": {"bf": "3", "g": "12", "b_strategy": "0", "sc_threshold": "0"},
    "open": {"x264-params": "open-gop=1:bframes=3:b-adapt=0:keyint=12:min-keyint=12:scenecut=0"},
    "intra refresh": {"x264-params": "intra-refresh=1:keyint=16:bframes=0"},
}


def picture(number: int) -> np.ndarray:
    """Noise that moves on with the number: decoded from elsewhere, it looks otherwise."""
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    return np.roll(noise, (3 * number, 2 * number), (0, 1))


def film(path: Path, count: int, options: dict[str, str], first: int = 0) -> Path:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=20, options=options)
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        for number in range(first, first + count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def videos(tmp_path: Path) -> list[Path]:
    """Three videos of 9, 7 and 5 frames."""
    return [film(tmp_path / f"{count}.mp4", count, {"g": "4"}, 10 * count) for count in (9, 7, 5)]


def opened(videos: list[Path], cache: Path, frames: FrameSource = "auto") -> CameraFrames:
    return open_cameras({"video.image": videos}, cache, frames)["video.image"]


def all_frames(videos: list[Path]) -> np.ndarray:
    return np.concatenate([list(read_video(path)) for path in videos])


def leave(monkeypatch: pytest.MonkeyPatch, free: float) -> None:
    """Let every disk have so many bytes left."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=int(free)))


@pytest.mark.parametrize("kind", KINDS)
def test_frames_decoded_on_demand_are_those_of_the_cache(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    videos = [film(tmp_path / f"{n}.mp4", 22, KINDS[kind], 22 * n) for n in range(2)]
    cached = opened(videos, tmp_path / "cache", "cache")
    decoded = DecodedFrames(videos, cached.times)
    assert isinstance(cached, StoredFrames)
    expected = all_frames(videos)
    rng = np.random.default_rng(0)
    for numbers in (rng.permutation(44)[:, None], rng.integers(0, 44, (9, 2, 2)), np.arange(44)[None]):
        for asked in numbers:
            assert np.array_equal(cached.at(asked), expected[asked])
            assert np.array_equal(decoded.at(asked), expected[asked])
    told = len(re.findall("cannot be entered at its key frames", caplog.text))
    assert told == (2 if kind == "intra refresh" else 0)  # once for each file


def test_more_videos_than_stay_open(tmp_path: Path) -> None:
    videos = [film(tmp_path / f"{n}.mp4", 3, {"g": "2"}, 3 * n) for n in range(12)]
    frames = opened(videos, tmp_path / "cache", "decode")
    for _ in range(2):
        numbers = np.random.default_rng(1).permutation(36).reshape(6, 6)
        assert np.array_equal(frames.at(numbers), all_frames(videos)[numbers])
    assert frames.at(np.zeros((2, 0), np.int64)).shape == (2, 0, SIDE, SIDE, 3)
    for outside in (-1, 36):
        with pytest.raises(IndexError, match=f"frames {outside} to {outside} of 36"):
            frames.at(np.asarray([outside]))


def test_a_video_is_listed_once_and_closed_where_it_cannot_be_read(
    videos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    times = all_frame_times(videos)
    listed: list[Path] = []
    closed: list[Path] = []
    for module in (video_files, seekable_video):
        monkeypatch.setattr(
            module, "frame_packets", lambda path, file: listed.append(path) or frame_packets(path, file)
        )
    monkeypatch.setattr(SeekableVideo, "close", lambda video: closed.append(video._path))
    frames = DecodedFrames(videos, times)
    assert frames.shape == (SIDE, SIDE, 3)
    frames.at(np.arange(9))
    assert listed == videos[:1]
    assert closed == []

    def refuse(*_: object) -> None:
        raise DatasetError("as a test would have it")

    monkeypatch.setattr(SeekableVideo, "read", refuse)
    with pytest.raises(DatasetError, match="as a test would have it"):
        frames.at(np.arange(9))
    assert closed == videos[:1]


def _look(frames: CameraFrames, expected: np.ndarray) -> None:
    numbers = np.random.default_rng(os.getpid()).integers(0, len(frames), 40)
    sys.exit(any(not np.array_equal(frames.at(number[None])[0], expected[number]) for number in numbers))


@pytest.mark.parametrize("frames", ["cache", "decode"])
def test_forked_processes_do_not_read_each_others_files(
    videos: list[Path], tmp_path: Path, frames: FrameSource
) -> None:
    shared = opened(videos, tmp_path / "cache", frames)
    expected = all_frames(videos)
    shared.at(np.arange(21))
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=_look, args=(shared, expected), daemon=True) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(10)
    assert [process.exitcode for process in processes] == [0, 0, 0]


def test_its_size_and_place_are_said_before_anything_is_decoded(
    videos: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = tmp_path / "cache"
    said: list[str] = []
    with caplog.at_level(logging.INFO):
        open_cameras({"video.image": videos}, cache, on_video=lambda: said.append(caplog.text))
    assert size(21 * BYTES) == "258.0 kB"
    assert f"21 frames of video.image take 258.0 kB decoded: decoding them once, in {cache}" in said[0]
    assert re.search(r"video.image: [\d.]+ ms a frame read from the cache, measured on 8", caplog.text)


def test_without_room_frames_are_decoded_as_they_are_needed(
    videos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    leave(monkeypatch, 2 * 21 * BYTES - 1)
    with caplog.at_level(logging.INFO):
        frames = opened(videos, tmp_path / "cache")
    assert isinstance(frames, DecodedFrames)
    assert "258.0 kB decoded, more than half of what is free" in caplog.text
    assert re.search(r"video.image: [\d.]+ ms a frame decoded as it is needed, measured on 8", caplog.text)
    assert not list((tmp_path / "cache").glob("*.npy*"))
    leave(monkeypatch, 2 * 21 * BYTES)
    assert isinstance(opened(videos, tmp_path / "cache"), StoredFrames)


def test_both_cameras_must_have_room(
    videos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    leave(monkeypatch, 3 * 14 * BYTES)
    cameras = {"video.left": videos[:1], "video.right": videos[2:]}
    opened(videos[:1], tmp_path / "cache")
    kinds = [type(frames) for frames in open_cameras(cameras, tmp_path / "cache").values()]
    assert kinds == [StoredFrames] * 2
    assert "gone or changed" not in caplog.text  # the left one was there, and is needed
    leave(monkeypatch, 3 * 21 * BYTES)
    cameras = {"video.left": videos, "video.right": videos[1:]}  # 21 and 12 frames: the first alone would fit
    kinds = [type(frames) for frames in open_cameras(cameras, tmp_path / "cache").values()]
    assert kinds == [DecodedFrames] * 2


def test_a_cache_that_is_asked_for_needs_room(
    videos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(monkeypatch, 21 * BYTES - 1)
    problem = (
        r"258.0 kB decoded: no room in .*cache, where 258.0 kB are free; name a folder on another disk with "
        "--cache, or decode frames as they are needed with --frames decode"
    )
    with pytest.raises(DatasetError, match=problem):
        opened(videos, tmp_path / "cache", "cache")


# A file may not grow beyond so many bytes: what a full disk does, and what it did to a mapped file by SIGBUS.
_LIMITED = """
import logging, resource, sys
from pathlib import Path
from gr00t.data.lerobot.frames.frame_source import open_cameras
from gr00t.data.lerobot.meta.layout import DatasetError
import numpy as np
logging.basicConfig(level=logging.WARNING, format="%(message)s")
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
cache, frames, *videos = sys.argv[1:]
try:
    opened = open_cameras({"video.image": [Path(path) for path in videos]}, Path(cache), frames)
    print(type(opened["video.image"]).__name__, opened["video.image"].at(np.arange(21)).sum(dtype=np.int64))
except DatasetError as error:
    print("refused:", error)
"""


@pytest.mark.parametrize("frames", ["auto", "cache"])
def test_a_disk_that_fills_up_while_frames_are_written(
    videos: list[Path], tmp_path: Path, frames: FrameSource
) -> None:
    cache = tmp_path / "cache"
    ended = subprocess.run(
        [sys.executable, "-c", _LIMITED, cache, frames, *videos], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, "Traceback" in ended.stderr) == (0, False), ended.stderr
    problem = f"{cache}: decoded frames cannot be written: File too large; "
    if frames == "cache":
        assert ended.stdout.startswith(f"refused: {problem}name a folder on another disk with --cache")
    else:
        assert ended.stdout == f"DecodedFrames {all_frames(videos).sum(dtype=np.int64)}\n"
        assert f"{problem}they are decoded as they are needed" in ended.stderr
    assert [path.name for path in cache.iterdir() if not path.name.endswith("times.npz")] == []


def test_a_folder_that_cannot_be_written_is_named(videos: list[Path], tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(DatasetError, match=r"cache: cannot be written: .*; name a folder on another disk"):
        opened(videos, tmp_path / "cache")
    assert isinstance(opened(videos, tmp_path / "cache", "decode"), DecodedFrames)


def test_a_cache_cut_short_is_an_error_while_it_is_read_and_made_anew_at_the_next_start(
    videos: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frames = opened(videos, tmp_path / "cache", "cache")
    (path,) = (tmp_path / "cache").glob("frames-*.npy")
    os.truncate(path, path.stat().st_size - 10)
    with pytest.raises(DatasetError, match=r"frames-\w+\.npy: was cut short while it was read; start again"):
        frames.at(np.arange(21))
    assert frames.at(np.arange(20)).shape[0] == 20
    cut, no_header = path.read_bytes(), b"\x93NUMPY\x01\x00\x20\x00{'(:" + bytes(99)
    for damage in (cut, cut[:60], b"", no_header):
        path.write_bytes(damage)
        again = opened(videos, tmp_path / "cache", "cache")
        assert np.array_equal(again.at(np.arange(21)), all_frames(videos))
    assert caplog.text.count("the frames are decoded anew") == 4
    (times,) = (tmp_path / "cache").glob("*.times.npz")
    for damage in (times.read_bytes()[:100], b"", b"text"):
        times.write_bytes(damage)
        opened(videos, tmp_path / "cache", "cache")
    assert caplog.text.count("times.npz: damaged, made anew") == 3


def test_a_process_killed_while_decoding_leaves_nothing_that_counts_and_the_next_one_removes_it(
    videos: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = tmp_path / "cache"
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from gr00t.data.lerobot.frames.frame_source import open_cameras\n"
        "die = lambda: os.kill(os.getpid(), signal.SIGKILL)\n"
        "open_cameras({'video.image': [Path(p) for p in sys.argv[2:]]}, Path(sys.argv[1]), on_video=die)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, cache, *videos], check=False)
    assert ended.returncode == -signal.SIGKILL
    (left,) = unfinished(cache)
    assert not list(cache.glob("*.npy"))
    foreign = cache / "somebody.npy.partial"
    foreign.write_text("another program's")
    for path in (left, foreign):
        os.utime(path, (time.time() - 3600,) * 2)
    with caplog.at_level(logging.INFO):
        frames = opened(videos, cache, "cache")
    assert np.array_equal(frames.at(np.arange(21)), all_frames(videos))
    assert "that a killed process left half written" in caplog.text
    assert (left.exists(), foreign.exists()) == (False, True)


def test_two_that_decode_at_once_do_not_hurt_each_other(videos: list[Path], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    inner: list[CameraFrames] = []

    def another() -> None:  # starts and ends while the first one writes
        if not inner:
            inner.append(opened(videos, cache, "cache"))

    def aged(path: Path) -> None:
        os.utime(path, (time.time() - 3600,) * 2)

    def between() -> None:
        for path in unfinished(cache):
            aged(path)  # old, but locked: somebody is writing it
        another()

    outer = open_cameras({"video.image": videos}, cache, on_video=between)["video.image"]
    for frames in (outer, *inner):
        assert np.array_equal(frames.at(np.arange(21)), all_frames(videos))
    assert len(list(cache.glob("*"))) == 2


def test_a_changed_video_gives_a_new_cache_and_the_old_one_is_named(
    videos: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    other = film(tmp_path / "other.mp4", 3, {})
    opened([other], cache, "cache")
    decoding = opened(videos, cache, "decode")
    opened(videos, cache, "cache")
    assert "gone or changed" not in caplog.text
    old = {path.name for path in cache.glob("*.npy")}
    film(videos[0], 9, {"g": "4"}, 500)
    with monkeypatch.context() as context:
        leave(context, 0)
        with pytest.raises(DatasetError, match="no room"):
            opened(videos, cache, "cache")
    assert "gone or changed" in caplog.text  # said where it matters most
    caplog.clear()
    frames = opened(videos, cache, "cache")
    assert np.array_equal(frames.at(np.arange(21)), all_frames(videos))
    named = re.findall(r"frames-\w+\.npy", caplog.text)
    assert len(named) == 1
    assert named[0] in old
    assert "258.2 kB of frames of videos that are gone or changed; remove what" in caplog.text
    with pytest.raises(DatasetError, match=r"9\.mp4: changed since the data set was opened"):
        decoding.at(np.arange(21))


def test_a_video_that_cannot_be_decoded_is_named(videos: list[Path], tmp_path: Path) -> None:
    frames = opened(videos, tmp_path / "cache", "decode")
    videos[1].unlink()
    with pytest.raises(DatasetError, match=r"7\.mp4: not found"):
        frames.at(np.arange(21))
    write_video(videos[1], np.zeros((7, 32, 32, 3), np.uint8), 20)
    with pytest.raises(DatasetError, match=r"7\.mp4: frames of \(32, 32, 3\), those before are"):
        opened(videos, tmp_path / "cache", "decode").at(np.asarray([10]))
