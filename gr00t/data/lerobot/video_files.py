"""Camera frames as mp4 files and back, with PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

# A key frame every other frame, as LeRobot writes them: readers that seek stay fast.
_OPTIONS = {"crf": "18", "g": "2", "preset": "veryfast"}


def write_video(path: Path, frames: NDArray[np.uint8], fps: int) -> None:
    """Write frames (T, H, W, 3) uint8, sides even, as H.264 in an mp4.

    Raises:
        ValueError: an odd side, which the format cannot hold.
    """
    height, width = frames.shape[1:3]
    if height % 2 or width % 2:
        raise ValueError(f"{path.name}: frames of {width}x{height}; both sides must be even")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options=_OPTIONS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def read_video(path: Path) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames of a video in order, each (H, W, 3) uint8.

    Raises:
        OSError: the file cannot be read as a video.
    """
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="rgb24")
