"""The frames of a camera, decoded each time they are asked for: nothing is kept on disk."""

from __future__ import annotations

import functools
import gc
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gr00t.data.lerobot.frames.camera_frames import CameraFrames
from gr00t.data.lerobot.frames.seekable_video import FrameList, SeekableVideo
from gr00t.data.lerobot.frames.video_files import first_shape
from gr00t.data.lerobot.meta.layout import DatasetError

# Videos that stay open; each holds the frames that its decoder refers to, some 50 MB at 1080p.
_OPEN = 8
_THREADS = min(8, os.cpu_count() or 1)


class _Decoders:
    """The open videos of one process: a forked one must not share where its files are read."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.lock = threading.Lock()
        self.videos: OrderedDict[int, SeekableVideo] = OrderedDict()
        self.pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="decode")


class DecodedFrames(CameraFrames):
    """Frames that are decoded on demand.

    Args:
        videos: files of one camera, in order.
        times: per video, when its frames are shown.

    Raises:
        DatasetError: the first video cannot be decoded.
    """

    def __init__(self, videos: Sequence[Path], times: Sequence[NDArray[np.float64]]) -> None:
        _free_decoders_before_forks()
        super().__init__(videos, times, first_shape(videos[0]))
        self._states = [_state(path) for path in videos]
        self._lists: dict[int, FrameList] = {}
        self._decoders = _Decoders()

    def _read(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        if self._decoders.process != os.getpid():
            self._decoders = _Decoders()
        numbers, repeated = np.unique(numbers, return_inverse=True)
        owners = np.searchsorted(self._ends, numbers, side="right")
        frames: NDArray[np.uint8] = np.empty((len(numbers), *self.shape), dtype=np.uint8)

        def read(video: int) -> None:
            places = np.flatnonzero(owners == video)
            first = int(self._ends[video]) - len(self.times[video])
            for place, frame in zip(places, self._from(video, numbers[places] - first), strict=True):
                frames[place] = frame

        list(self._decoders.pool.map(read, np.unique(owners).tolist()))
        return frames[repeated]

    def _from(self, video: int, numbers: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
        """Frames of one video, numbered within it."""
        opened = self._take(video)
        try:
            found = opened.read(numbers)
        except BaseException:
            opened.close()
            raise
        self._give_back(video, opened)
        for frame in found:
            if frame.shape != self.shape:
                raise DatasetError(
                    f"{self.videos[video]}: frames of {frame.shape}, those before are {self.shape}"
                )
        return found

    def _take(self, video: int) -> SeekableVideo:
        """A video that no other thread reads meanwhile."""
        path = self.videos[video]
        if _state(path) != self._states[video]:  # an open one would show a mixture of both
            raise DatasetError(f"{path}: changed since the data set was opened; start again")
        with self._decoders.lock:
            opened = self._decoders.videos.pop(video, None)
        if opened is not None:
            return opened
        if video not in self._lists:
            found = FrameList(path)
            if len(found.shown) != len(self.times[video]):
                raise DatasetError(f"{path}: {len(found.shown)} frames, expected {len(self.times[video])}")
            self._lists[video] = found
        return SeekableVideo(path, self._lists[video])

    def _give_back(self, video: int, opened: SeekableVideo) -> None:
        with self._decoders.lock:
            replaced = [self._decoders.videos.pop(video, None)]
            self._decoders.videos[video] = opened
            if len(self._decoders.videos) > _OPEN:
                replaced.append(self._decoders.videos.popitem(last=False)[1])
        for unwanted in replaced:
            if unwanted is not None:
                unwanted.close()


@functools.cache
def _free_decoders_before_forks() -> None:
    """A decoder that nobody refers to any more is freed with the next garbage collection, and then waits for
    its threads to end: in a forked process, which has none of them, for ever.
    """
    os.register_at_fork(before=gc.collect)


def _state(path: Path) -> tuple[int, int]:
    if not path.is_file():
        raise DatasetError(f"{path}: not found")
    found = path.stat()
    return found.st_size, found.st_mtime_ns
