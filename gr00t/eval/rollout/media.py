"""Videos, thumbnails and actions of episodes, as bytes: who plays an episode need not be who keeps it."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_THUMBNAIL_PIXELS = 128
_JPEG_QUALITY = 80


def encode_video(frames: Sequence[NDArray[np.uint8]], fps: int) -> bytes:
    """Frames (S, S, 3) uint8 as an H.264 file, made by the ffmpeg that the imageio-ffmpeg wheel brings."""
    import imageio_ffmpeg

    height, width = frames[0].shape[:2]
    with tempfile.TemporaryDirectory(prefix="video-") as folder:
        path = Path(folder) / "video.mp4"
        writer = imageio_ffmpeg.write_frames(
            str(path), (width, height), fps=fps, codec="libx264", quality=7, ffmpeg_log_level="error"
        )
        writer.send(None)
        for frame in frames:
            writer.send(np.ascontiguousarray(frame))
        writer.close()
        return path.read_bytes()


def encode_thumbnail(image: NDArray[np.uint8]) -> bytes:
    """An image (S, S, 3) uint8 as a JPEG of at most 128 pixels a side: 3 to 6 kB."""
    from PIL import Image

    picture = Image.fromarray(image)
    picture.thumbnail((_THUMBNAIL_PIXELS, _THUMBNAIL_PIXELS))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()


def encode_actions(actions: NDArray[np.float64]) -> bytes:
    """Actions (N, 7) as .npy of float32: 28 bytes a step."""
    buffer = io.BytesIO()
    np.save(buffer, actions.astype(np.float32))
    return buffer.getvalue()
