"""All frames of a camera as one array in a file: decoded once, then mapped.

A training step picks frames at random, and a video must be decoded from its last key frame. Decoding each
video once, in order, is many times faster than decoding for every sample; what is read often stays in the
system's page cache.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gr00t.data.lerobot.layout import DatasetError
from gr00t.data.lerobot.video_files import read_video


def cached_frames(
    videos: Sequence[Path],
    lengths: Sequence[int],
    cache: Path,
    *,
    on_video: Callable[[], None] = lambda: None,
) -> NDArray[np.uint8]:
    """Return the frames of all videos, one after the other: (sum of lengths, H, W, 3) uint8, mapped.

    Args:
        videos: files of one camera, in order.
        lengths: how many frames each must have.
        cache: folder for the decoded frames; they take H W 3 bytes a frame.
        on_video: told after each video that had to be decoded.

    Raises:
        DatasetError: a video is missing, has another number of frames than said, or another size.
    """
    target = cache / f"frames-{_fingerprint(videos)}.npy"
    if not target.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=cache, suffix=".npy.partial")
        os.close(handle)
        try:
            _decode(videos, lengths, Path(name), on_video)
            os.replace(name, target)
        finally:
            Path(name).unlink(missing_ok=True)
    frames: NDArray[np.uint8] = np.load(target, mmap_mode="r")
    if len(frames) != sum(lengths):
        raise DatasetError(f"{target}: {len(frames)} frames, expected {sum(lengths)}; remove the file")
    return frames


def _decode(
    videos: Sequence[Path], lengths: Sequence[int], target: Path, on_video: Callable[[], None]
) -> None:
    frames: np.memmap[Any, np.dtype[np.uint8]] | None = None
    first = 0
    for path, length in zip(videos, lengths, strict=True):
        if not path.is_file():
            raise DatasetError(f"{path}: not found")
        place = first
        for frame in read_video(path):
            if frames is None:
                shape = (sum(lengths), *frame.shape)
                frames = np.lib.format.open_memmap(target, mode="w+", dtype=np.uint8, shape=shape)
            if frame.shape != frames.shape[1:]:
                raise DatasetError(f"{path}: frames of {frame.shape}, those before are {frames.shape[1:]}")
            if place < first + length:
                frames[place] = frame
            place += 1
        if place - first != length:
            raise DatasetError(f"{path}: {place - first} frames, its episode has {length}")
        first += length
        on_video()
    if frames is None:
        raise DatasetError("no video has a frame")
    frames.flush()


def _fingerprint(videos: Sequence[Path]) -> str:
    """A name that changes with the files: their paths, sizes and times."""
    digest = hashlib.sha256()
    for path in videos:
        if not path.is_file():
            raise DatasetError(f"{path}: not found")
        state = path.stat()
        digest.update(f"{path.resolve()} {state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]
