"""All frames of a camera as one array in a file: decoded once, then read.

A training step picks frames at random, and a video must be decoded from its last key frame. Decoding each
video once, in order, is many times faster than decoding for every sample; what is read often stays in the
system's page cache. Every frame of a video is kept, whichever rows see it (`row_frames`); when each is shown
stands beside them.

Frames are written and read by the system's calls, and not by mapping the file: a full disk, or a file that
somebody cuts short, is then an error with a name, where a mapped one ends the process.
"""

from __future__ import annotations

import hashlib
import logging
import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from tokenize import TokenError

import numpy as np
from numpy.typing import NDArray

from gr00t.data.lerobot.frames.cache_files import written_as_a_whole
from gr00t.data.lerobot.frames.camera_frames import CameraFrames
from gr00t.data.lerobot.frames.video_files import all_frame_times, read_video
from gr00t.data.lerobot.meta.faults import DatasetError, Fault, error_of, raise_faults

logger = logging.getLogger(__name__)

Times = list[NDArray[np.float64]]


class StoredFrames(CameraFrames):
    """Frames in a file that `store_frames` wrote.

    Args:
        videos: which they were decoded from, in order.
        times: per video, when its frames are shown.
        path: of the file.

    Raises:
        DatasetError: the file is damaged, or holds the frames of others.
    """

    def __init__(self, videos: Sequence[Path], times: Times, path: Path) -> None:
        count = sum(len(shown) for shown in times)
        try:
            self._file = path.open("rb", buffering=0)
            self._first, shape = _header(self._file.fileno(), path)
        except OSError as error:
            raise DatasetError(f"{path}: cannot be read: {error.strerror}") from error
        super().__init__(videos, times, shape[1:])
        self._path = path
        self._bytes = shape[1] * shape[2] * shape[3]
        size = os.fstat(self._file.fileno()).st_size
        if shape[0] != count or size != self._first + count * self._bytes:
            raise DatasetError(f"{path}: {size} bytes for {shape[0]} frames, the videos have {count}")

    def _read(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        frames = np.empty((len(numbers), *self.shape), dtype=np.uint8)
        for frame, number in zip(frames, numbers.tolist(), strict=True):
            rest = frame.data.cast("B")
            place = self._first + number * self._bytes
            while rest:
                try:
                    read = os.preadv(self._file.fileno(), [rest], place)
                except OSError as error:
                    raise DatasetError(f"{self._path}: cannot be read: {error.strerror}") from error
                if not read:
                    raise DatasetError(
                        f"{self._path}: was cut short while it was read; start again, and it is decoded anew"
                    )
                rest, place = rest[read:], place + read
        return frames


def cache_name(videos: Sequence[Path]) -> str:
    """A name that changes with the files: their paths, sizes and times."""
    digest = hashlib.sha256()
    for path in videos:
        if not path.is_file():
            raise DatasetError(f"{path}: not found")
        state = path.stat()
        digest.update(f"{path.resolve()} {state.st_size} {state.st_mtime_ns}\n".encode())
    return f"frames-{digest.hexdigest()[:16]}"


def stored_times(videos: Sequence[Path], cache: Path, name: str) -> Times:
    """When the frames of each video are shown; kept for the next time where the folder can be written."""
    target = cache / f"{name}.times.npz"
    if target.is_file():
        try:
            with np.load(target) as stored:
                counts, times = stored["counts"], stored["times"]
            if len(counts) == len(videos) and counts.sum() == len(times):
                return np.split(times, np.cumsum(counts)[:-1])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            logger.warning("%s: damaged, made anew: %s", target, error)
    found = all_frame_times(videos)
    try:
        with written_as_a_whole(target) as file:
            counts = [len(shown) for shown in found]
            np.savez(file, counts=counts, times=np.concatenate(found), video=str(videos[0].resolve()))
    except OSError as error:
        logger.warning("%s: not written, found anew at the next start: %s", target, error.strerror)
    return found


def stored_frames(videos: Sequence[Path], times: Times, cache: Path, name: str) -> StoredFrames | None:
    """The frames if they were decoded before; a damaged file counts as none."""
    target = cache / f"{name}.npy"
    if not target.is_file():
        return None
    try:
        return StoredFrames(videos, times, target)
    except DatasetError as error:
        logger.warning("%s; the frames are decoded anew", error)
        return None


def store_frames(
    videos: Sequence[Path], times: Times, cache: Path, name: str, on_video: Callable[[], None]
) -> StoredFrames:
    """Decode all videos into a file of the folder.

    Raises:
        DatasetError: videos are damaged, or of another size than those before; the message lists all.
        OSError: the folder cannot be written, or the disk is full.
    """
    count = sum(len(shown) for shown in times)
    target = cache / f"{name}.npy"
    shape: tuple[int, ...] | None = None
    faults: list[Fault] = []
    with written_as_a_whole(target) as file:
        for path in videos:
            try:
                for frame in read_video(path):
                    if shape is None:
                        shape = frame.shape
                        described = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
                        np.lib.format.write_array_header_1_0(file, described)
                    if frame.shape != shape:
                        raise error_of(Fault(path, f"frames of {frame.shape}, those before are {shape}"))
                    file.write(np.ascontiguousarray(frame).data)
            except DatasetError as error:  # the others are still decoded, so that all damage is told at once
                faults.extend(error.faults)
            on_video()
        raise_faults(videos[0].parent, faults)
    return StoredFrames(videos, times, target)


def _header(file: int, path: Path) -> tuple[int, tuple[int, int, int, int]]:
    """Where the first frame stands, and the shape of all, (F, H, W, 3)."""
    with os.fdopen(os.dup(file), "rb") as copy:
        try:
            np.lib.format.read_magic(copy)
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(copy)
        except (ValueError, SyntaxError, TokenError) as error:
            raise DatasetError(f"{path}: damaged: {error}") from error
        first = copy.tell()
    if len(shape) != 4 or fortran or dtype != np.uint8:
        raise DatasetError(f"{path}: damaged: {dtype} of {shape} are no frames")
    return first, shape
