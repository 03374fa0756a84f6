"""Frames of a video file. PyAV decodes, whichever decoder is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gr00t.data.lerobot.frames.frames_on_demand import DecodedFrames
from gr00t.data.lerobot.frames.video_files import frame_times, read_video


def get_frames_by_indices(
    video_path: str | Path,
    indices: Sequence[int] | NDArray[np.int64],
    video_backend: str = "decord",
    video_backend_kwargs: dict[str, Any] | None = None,
) -> NDArray[np.uint8]:
    """Return frames by number, (T, H, W, 3) uint8.

    Raises:
        IndexError: there is no such frame.
        DatasetError: the file cannot be read as a video.
    """
    path = Path(video_path)
    return DecodedFrames([path], [frame_times(path)]).at(np.asarray(indices, dtype=np.int64))


def get_frames_by_timestamps(
    video_path: str | Path,
    timestamps: Sequence[float] | NDArray[np.float64],
    video_backend: str = "decord",
    video_backend_kwargs: dict[str, Any] | None = None,
) -> NDArray[np.uint8]:
    """Return the frame nearest to each time, in seconds, of two equally near ones the earlier.

    Returns:
        (T, H, W, 3) uint8.

    Raises:
        DatasetError: the file cannot be read as a video.
    """
    path = Path(video_path)
    times = frame_times(path)
    distances = np.abs(times[:, None] - np.asarray(timestamps, dtype=np.float64)[None])
    return DecodedFrames([path], [times]).at(distances.argmin(axis=0))


def get_all_frames(
    video_path: str | Path,
    video_backend: str = "decord",
    video_backend_kwargs: dict[str, Any] | None = None,
    resize_size: tuple[int, int] | None = None,
) -> NDArray[np.uint8]:
    """Return all frames, (F, H, W, 3) uint8; bilinearly resized to a width and height where given.

    Raises:
        DatasetError: the file cannot be read as a video.
    """
    frames = list(read_video(Path(video_path)))
    if resize_size is not None:
        frames = [
            np.asarray(Image.fromarray(frame).resize(resize_size, Image.Resampling.BILINEAR))
            for frame in frames
        ]
    return np.stack(frames)
