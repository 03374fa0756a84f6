"""Where the frames of a data set come from: a cache on disk where it has room for them, else the videos.

The cache holds raw frames: 0.9 MB each at 640x480, some 100 times the size of the videos. So its size is said
before anything is decoded, and what a frame costs is measured on this machine and said too.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from gr00t.data.lerobot.frames.cache_files import NO_ROOM, outdated, remove_abandoned
from gr00t.data.lerobot.frames.camera_frames import CameraFrames
from gr00t.data.lerobot.frames.frame_cache import Times, cache_name, store_frames, stored_frames, stored_times
from gr00t.data.lerobot.frames.frames_on_demand import DecodedFrames
from gr00t.data.lerobot.frames.source_names import FrameSource
from gr00t.data.lerobot.frames.video_files import first_shape
from gr00t.data.lerobot.meta.layout import DatasetError

logger = logging.getLogger(__name__)

_SHARE_OF_FREE = {"auto": 0.5, "cache": 1.0}
_MEASURED = 8  # frames
_HELP = "name a folder on another disk with --cache, or decode frames as they are needed with --frames decode"


def open_cameras(
    videos: Mapping[str, Sequence[Path]],
    cache: Path,
    frames: FrameSource = "auto",
    *,
    on_video: Callable[[], None] = lambda: None,
) -> dict[str, CameraFrames]:
    """Return the frames of every camera.

    Args:
        videos: by camera, the files in order.
        cache: folder for decoded frames; they take H W 3 bytes each.
        frames: where they come from. What was cached before is used in any case.
        on_video: told after each video that had to be decoded.

    Raises:
        DatasetError: a video is missing, damaged, or of another size than those before; or the cache is
            asked for, and there is no room for it.
    """
    names = {key: cache_name(files) for key, files in videos.items()}
    times = {key: stored_times(files, cache, names[key]) for key, files in videos.items()}
    opened: dict[str, CameraFrames] = {}
    for key, files in videos.items():
        if stored := stored_frames(files, times[key], cache, names[key]):
            opened[key] = stored
    absent = {key: videos[key] for key in videos if key not in opened}
    if absent and frames != "decode":
        _name_outdated(cache, list(names.values()))
    if absent and frames != "decode" and _has_room(absent, times, cache, frames):
        for key in absent:
            written = _stored(videos[key], times[key], cache, names[key], frames, on_video)
            if written is None:
                break
            opened[key] = written
    for key in videos:
        if key not in opened:
            opened[key] = DecodedFrames(videos[key], times[key])
        _measure(key, opened[key])
    return {key: opened[key] for key in videos}


def _has_room(
    videos: Mapping[str, Sequence[Path]], times: Mapping[str, Times], cache: Path, frames: FrameSource
) -> bool:
    """Whether the frames of these cameras may be written; says how large they become, and where.

    Raises:
        DatasetError: not, though the cache is asked for.
    """
    count = sum(len(shown) for key in videos for shown in times[key])
    needed = sum(
        int(np.prod(first_shape(files[0]))) * sum(len(shown) for shown in times[key])
        for key, files in videos.items()
    )
    try:
        cache.mkdir(parents=True, exist_ok=True)
        freed = remove_abandoned(cache)
        free = shutil.disk_usage(cache).free
    except OSError as error:
        raise DatasetError(f"{cache}: cannot be written: {error.strerror}; {_HELP}") from error
    if freed:
        logger.info("%s: removed %s that a killed process left half written", cache, size(freed))
    what = f"{count} frames of {', '.join(videos)} take {size(needed)} decoded"
    where = f"in {cache}, where {size(free)} are free"
    if needed <= _SHARE_OF_FREE[frames] * free:
        logger.info("%s: decoding them once, %s", what, where)
        return True
    if frames == "cache":
        raise DatasetError(f"{what}: no room {where}; {_HELP}")
    logger.warning(
        "%s, more than half of what is free %s: they are decoded as they are needed (--frames cache takes "
        "the space, --cache names another folder)",
        what,
        where,
    )
    return False


def _stored(
    videos: Sequence[Path],
    times: Times,
    cache: Path,
    name: str,
    frames: FrameSource,
    on_video: Callable[[], None],
) -> CameraFrames | None:
    """The frames, decoded into the cache; None if the disk became full, and that may be.

    Raises:
        DatasetError: the cache cannot be written.
    """
    try:
        return store_frames(videos, times, cache, name, on_video)
    except OSError as error:
        if frames == "cache" or error.errno not in NO_ROOM:
            raise DatasetError(
                f"{cache}: decoded frames cannot be written: {error.strerror}; {_HELP}"
            ) from error
        logger.warning(
            "%s: decoded frames cannot be written: %s; they are decoded as they are needed",
            cache,
            error.strerror,
        )
        return None


def _name_outdated(cache: Path, used: Sequence[str]) -> None:
    found = outdated(cache, used)
    if found:
        logger.warning(
            "%s: %s of frames of videos that are gone or changed; remove what no other training uses: %s",
            cache,
            size(sum(found.values())),
            ", ".join(sorted(path.name for path in found)),
        )


def _measure(key: str, frames: CameraFrames) -> None:
    """Say what a frame costs, as measured on some that lie far from each other."""
    numbers = np.unique(np.linspace(0, len(frames) - 1, _MEASURED).astype(np.int64))
    started = time.perf_counter()
    for number in numbers:
        frames.at(number[None])
    cost = (time.perf_counter() - started) / len(numbers)
    how = "decoded as it is needed" if isinstance(frames, DecodedFrames) else "read from the cache"
    logger.info("%s: %.2f ms a frame %s, measured on %d", key, 1e3 * cost, how, len(numbers))


def size(count: float) -> str:
    """Bytes, for people."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count:.0f} bytes"
