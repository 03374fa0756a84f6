"""Camera frames as mp4 files and back, with PyAV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from gr00t.data.lerobot.meta.faults import DatasetError, Fault, error_of, raise_faults

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


def open_video(path: Path) -> InputContainer:
    """Open a video; by its absolute path, since FFmpeg takes `NAME:` at the beginning for a protocol."""
    return av.open(str(path.absolute()), metadata_errors="replace")


def upright(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """The pixels of a frame, (H, W, 3), turned as it is to be seen.

    Phones store what they film in one way however they are held, and say beside it how to turn it. decord and
    OpenCV turn it, torchcodec from 0.11 on.
    """
    stored = frame.to_ndarray(format="rgb24")
    turned: NDArray[np.uint8] = np.ascontiguousarray(np.rot90(stored, round(frame.rotation / 90)))
    return turned


def read_video(path: Path) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames of a video in the order in which they are shown, each (H, W, 3) uint8.

    Raises:
        DatasetError: the file cannot be read as a video, shows other frames than `frame_times` lists, or
            has frames that a decoder could only guess.
    """
    expected = frame_times(path)
    shown = []
    guessed = []
    try:
        with open_video(path) as container:
            for frame in container.decode(video=0):
                pts, unit = frame.pts, frame.time_base
                shown.append(np.nan if pts is None or unit is None else float(pts * unit))
                if frame.is_corrupt:
                    guessed.append(len(shown) - 1)
                yield upright(frame)
    except (av.FFmpegError, OSError) as error:
        raise error_of(Fault(path, f"cannot be read as a video: {error}")) from error
    if len(shown) != len(expected) or not np.array_equal(np.asarray(shown) - shown[0], expected):
        what = f"{len(shown)} frames can be decoded of {len(expected)}, or they come out of order"
        raise error_of(Fault(path, what, allowed="the file is damaged"))
    if guessed:
        what = f"{len(guessed)} frames are damaged, the first of them frame {guessed[0]}"
        raise error_of(Fault(path, what, helps="download it again"))


class FramePacket(NamedTuple):
    """What one frame is decoded from.

    Attributes:
        shown: when the frame is shown, in units of `unit`.
        stored: when it is to be decoded.
        is_key: whether decoding may begin with it.
        unit: seconds.
    """

    shown: int
    stored: int
    is_key: bool
    unit: Fraction


def frame_packets(path: Path, container: InputContainer) -> Iterator[FramePacket]:
    """Yield what a video's frames are decoded from, one each, in the order in which they are stored.

    Raises:
        DatasetError: the file does not say when a frame is shown.
    """
    for packet in container.demux(video=0):
        if packet.size and not packet.is_discard:
            if packet.pts is None or packet.time_base is None:
                raise error_of(Fault(path, "does not say when its frames are shown"))
            stored = packet.pts if packet.dts is None else packet.dts
            yield FramePacket(packet.pts, stored, packet.is_keyframe, packet.time_base)


def frame_times(path: Path) -> NDArray[np.float64]:
    """When each frame of a video is shown, (F,) in seconds since the first one; nothing is decoded.

    Where frames are stored in another order than they are shown in (B-frames), it is the latter that counts.

    Raises:
        DatasetError: the file cannot be read as a video, has no frame, or does not say when they are shown.
    """
    try:
        with open_video(path) as container:
            _check_decodable(path, container)
            times = [float(packet.shown * packet.unit) for packet in frame_packets(path, container)]
    except (av.FFmpegError, OSError) as error:
        raise error_of(Fault(path, f"cannot be read as a video: {error}")) from error
    if not times:
        raise error_of(Fault(path, "no frame"))
    times.sort()
    return np.asarray(times) - times[0]


def _check_decodable(path: Path, container: InputContainer) -> None:
    if not container.streams.video:
        raise error_of(Fault(path, "has no video"))
    if container.streams.video[0].codec_context is None:
        raise error_of(Fault(path, "is in a format that nothing here decodes"))


def first_shape(path: Path) -> tuple[int, int, int]:
    """Height, width and channels of a video's first frame; no other one is decoded or looked for.

    Raises:
        DatasetError: there is none, or it cannot be decoded.
    """
    try:
        with open_video(path) as container:
            _check_decodable(path, container)
            for frame in container.decode(video=0):
                height, width, channels = upright(frame).shape
                return height, width, channels
    except (av.FFmpegError, OSError) as error:
        raise error_of(Fault(path, f"cannot be read as a video: {error}")) from error
    raise error_of(Fault(path, "no frame"))


def all_frame_times(videos: Sequence[Path]) -> list[NDArray[np.float64]]:
    """When the frames of each video are shown, see `frame_times`.

    Raises:
        DatasetError: that cannot be told of a video; the message lists all of those.
    """
    found: list[NDArray[np.float64]] = []
    faults: list[Fault] = []
    for path in videos:
        try:
            found.append(frame_times(path))
        except DatasetError as error:
            faults.extend(error.faults)
    raise_faults(videos[0].parent if videos else Path(), faults)
    return found
