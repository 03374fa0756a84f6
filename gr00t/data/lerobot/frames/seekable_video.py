"""Single frames of a video, without decoding all those before.

A frame is decoded from a key frame on. Which one follows from the file's list of frames, not from where the
container happens to land: frames may be stored in another order than they are shown in, and one that is
stored behind a key frame but shown before it refers to frames before that key frame (an open group of
pictures). Where the key frame is none, only marked as one (x264's intra refresh), or does not come out first,
the whole video is decoded. So the frames are those of `read_video`, bit for bit.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import PictureType
from numpy.typing import NDArray

from gr00t.data.lerobot.frames.video_files import frame_packets, open_video, read_video, upright
from gr00t.data.lerobot.meta.layout import DatasetError

logger = logging.getLogger(__name__)


class FrameList:
    """Where each frame of a video is decoded from.

    Args:
        path: of the video.

    Attributes:
        shown: (F,) int64 ascending, when each frame is shown, in the container's clock.
        start: (F,) int64, when its key frame is stored to be decoded, in the same clock.
        start_shown: (F,) int64, when its key frame is shown.
        enterable: False once a key frame was found to be none.

    Raises:
        DatasetError: the file cannot be read as a video.
    """

    def __init__(self, path: Path) -> None:
        shown: list[int] = []
        start: list[int] = []
        start_shown: list[int] = []
        keys: list[tuple[int, int]] = []
        self.enterable = True
        with _opened(path) as container:
            for packet in frame_packets(path, container):
                if packet.is_key or not keys:
                    keys.append((packet.shown, packet.stored))
                from_key = next((key for key in reversed(keys) if key[0] <= packet.shown), keys[0])
                shown.append(packet.shown)
                start_shown.append(from_key[0])
                start.append(from_key[1])
        order = np.argsort(shown, kind="stable")
        self.shown, self.start, self.start_shown = (
            np.asarray(values, dtype=np.int64)[order] for values in (shown, start, start_shown)
        )


class SeekableVideo:
    """An open video.

    Args:
        path: of the video.
        frames: its list.

    Raises:
        DatasetError: the file cannot be read as a video.
    """

    def __init__(self, path: Path, frames: FrameList) -> None:
        self._path = path
        self._list = frames
        self._container = _opened(path)
        self._stream = self._container.streams.video[0]
        # Many videos are open, and several are decoded at the same time.
        self._stream.codec_context.thread_count = 1
        self._decoded: Iterator[av.VideoFrame] = iter(())
        self._last: int | None = None  # when the frame that was decoded last is shown

    def read(self, numbers: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
        """Return frames (H, W, 3) by number in the order in which they are shown; numbers ascend.

        Raises:
            DatasetError: a frame cannot be decoded.
        """
        try:
            found = [self._frame(int(number)) for number in numbers]
        except (av.FFmpegError, OSError) as error:
            raise DatasetError(f"{self._path}: cannot be read as a video: {error}") from error
        missing = [number for number, frame in zip(numbers.tolist(), found, strict=True) if frame is None]
        others = self._out_of_all(missing) if missing else {}
        return [
            others[number] if frame is None else frame
            for number, frame in zip(numbers.tolist(), found, strict=True)
        ]

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def _frame(self, number: int) -> NDArray[np.uint8] | None:
        """A frame decoded from its key frame; None where that does not give it for certain."""
        wanted, key_shown = int(self._list.shown[number]), int(self._list.start_shown[number])
        if self._last is None or not key_shown <= self._last < wanted:
            self._container.seek(int(self._list.start[number]), stream=self._stream, backward=True)
            self._decoded = self._frames_from(key_shown)
        self._last = None
        for frame in self._decoded:
            if frame.pts == wanted:
                if frame.is_corrupt:  # or wrongly entered
                    return None
                self._last = wanted
                return upright(frame)
        return None

    def _frames_from(self, key_shown: int) -> Iterator[av.VideoFrame]:
        """The frames from a key frame on; none if that one is not intra-coded, or does not come first."""
        started = False
        for packet in self._container.demux(self._stream):
            for frame in packet.decode():
                if frame.pts is None or frame.pts < key_shown:
                    continue
                if not started and not (frame.pts == key_shown and frame.pict_type == PictureType.I):
                    return
                started = True
                yield frame

    def _out_of_all(self, numbers: list[int]) -> dict[int, NDArray[np.uint8]]:
        """Frames by number, when all are decoded."""
        if self._list.enterable:
            logger.warning("%s: cannot be entered at its key frames; decoded from its start", self._path)
            self._list.enterable = False
        wanted = set(numbers)
        return {number: frame for number, frame in enumerate(read_video(self._path)) if number in wanted}


def _opened(path: Path) -> InputContainer:
    try:
        container = open_video(path)
    except (av.FFmpegError, OSError) as error:
        raise DatasetError(f"{path}: cannot be read as a video: {error}") from error
    if not container.streams.video:
        container.close()
        raise DatasetError(f"{path}: has no video")
    return container
