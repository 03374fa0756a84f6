"""All frames of a camera as one array in a file: decoded once, then mapped.

A training step picks frames at random, and a video must be decoded from its last key frame. Decoding each
video once, in order, is many times faster than decoding for every sample; what is read often stays in the
system's page cache. Every frame of a video is kept, whichever rows see it (`row_frames`); when each is shown
stands beside them.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gr00t.data.lerobot.layout import DatasetError
from gr00t.data.lerobot.video_files import frame_times, read_video


@dataclass(frozen=True)
class CameraFrames:
    """What a camera saw.

    Attributes:
        frames: of all videos, one after the other, (F, H, W, 3) uint8, mapped.
        times: per video (frames,) float64, when each is shown, in seconds since the first one.
    """

    frames: NDArray[np.uint8]
    times: list[NDArray[np.float64]]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of a frame."""
        height, width, channels = self.frames.shape[1:]
        return height, width, channels

    def at(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The frames of these numbers (...), counted over all videos: (..., H, W, 3)."""
        return np.asarray(self.frames[numbers])


def cached_frames(
    videos: Sequence[Path], cache: Path, *, on_video: Callable[[], None] = lambda: None
) -> CameraFrames:
    """Return the frames of all videos.

    Args:
        videos: files of one camera, in order.
        cache: folder for the decoded frames; they take H W 3 bytes a frame.
        on_video: told after each video that had to be decoded.

    Raises:
        DatasetError: a video is missing, damaged, or of another size than those before.
    """
    name = f"frames-{_fingerprint(videos)}"
    times = _cached_times(videos, cache / f"{name}.times.npz")
    target = cache / f"{name}.npy"
    if not target.is_file():
        with _written_as_a_whole(target) as partial:
            _decode(videos, sum(len(shown) for shown in times), partial, on_video)
    frames: NDArray[np.uint8] = np.load(target, mmap_mode="r")
    if len(frames) != sum(len(shown) for shown in times):
        raise DatasetError(f"{target}: {len(frames)} frames, the videos have others; remove the file")
    return CameraFrames(frames, times)


def _cached_times(videos: Sequence[Path], target: Path) -> list[NDArray[np.float64]]:
    if not target.is_file():
        found = [frame_times(path) for path in videos]
        with _written_as_a_whole(target) as partial, partial.open("wb") as file:
            np.savez(file, counts=[len(shown) for shown in found], times=np.concatenate(found))
        return found
    with np.load(target) as stored:
        counts, times = stored["counts"], stored["times"]
    return np.split(times, np.cumsum(counts)[:-1])


def _decode(videos: Sequence[Path], count: int, target: Path, on_video: Callable[[], None]) -> None:
    frames: np.memmap[Any, np.dtype[np.uint8]] | None = None
    place = 0
    for path in videos:
        for frame in read_video(path):
            if frames is None:
                shape = (count, *frame.shape)
                frames = np.lib.format.open_memmap(target, mode="w+", dtype=np.uint8, shape=shape)
            if frame.shape != frames.shape[1:]:
                raise DatasetError(f"{path}: frames of {frame.shape}, those before are {frames.shape[1:]}")
            if place < count:  # more than the file lists: `read_video` refuses it at its end
                frames[place] = frame
            place += 1
        on_video()
    assert frames is not None, "a video without a frame has no times"
    frames.flush()


@contextmanager
def _written_as_a_whole(target: Path) -> Iterator[Path]:
    """Write a file aside, and give it its name only when it is whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, suffix=f"{target.suffix}.partial")
    os.close(handle)
    try:
        yield Path(name)
        os.replace(name, target)
    finally:
        Path(name).unlink(missing_ok=True)


def _fingerprint(videos: Sequence[Path]) -> str:
    """A name that changes with the files: their paths, sizes and times."""
    digest = hashlib.sha256()
    for path in videos:
        if not path.is_file():
            raise DatasetError(f"{path}: not found")
        state = path.stat()
        digest.update(f"{path.resolve()} {state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]
