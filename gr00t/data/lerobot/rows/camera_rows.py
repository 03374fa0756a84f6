"""Which frame of a camera every row of a data set sees, counted over all its videos."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gr00t.data.lerobot.meta.episodes import Clip
from gr00t.data.lerobot.meta.episodes_v3 import EPISODES
from gr00t.data.lerobot.meta.faults import DatasetError, Fault, error_of
from gr00t.data.lerobot.meta.features import camera_features
from gr00t.data.lerobot.meta.layout import Layout
from gr00t.data.lerobot.meta.meta_files import absent
from gr00t.data.lerobot.meta.modality import MODALITY
from gr00t.data.lerobot.rows.contents import Contents, whose
from gr00t.data.lerobot.rows.row_frames import FrameRule, frames_of_rows, usual_interval
from gr00t.spelling import did_you_mean

logger = logging.getLogger(__name__)

# Of a list in a warning.
_MOST_NAMED = 5
_LEAVE_OUT = "or leave the episode out: take its line from meta/episodes.jsonl"


def missing_videos(layout: Layout, camera: str) -> list[Fault]:
    """A fault for each video of a camera that is not there, or one for a camera that is not of the set."""
    key = layout.modality.cameras[camera]
    known = camera_features(layout.features)
    unknown = f"{camera}: there is no camera {key!r}"
    if any(key not in episode.clips for episode in layout.episodes):
        return [Fault(layout.folder / EPISODES, f"says nothing of {key!r}", allowed=did_you_mean(key, known))]
    found = [fault for path in layout.videos(camera) if (fault := absent(path, layout.folder))]
    if key not in layout.features and len(found) == len(layout.videos(camera)):
        listed = f"the set has {', '.join(known) or 'none'}"
        near = did_you_mean(key, known)
        near = f"{near} {listed}" if near.startswith("did") else listed
        return [Fault(layout.folder / MODALITY, unknown, allowed=near, helps="correct its original_key")]
    return found


def rows_of_camera(
    layout: Layout,
    camera: str,
    contents: Contents,
    times: Mapping[Path, NDArray[np.float64]],
    rule: FrameRule,
    faults: list[Fault],
    *,
    tell: bool = True,
) -> NDArray[np.int64]:
    """The frame that each row sees, (N,), counted over the files of `times` in their order.

    Videos that end before their last row or go on after it are told in one warning.

    Args:
        layout: of the data set.
        camera: `video.image` and the like.
        contents: the rows.
        times: per file, when its frames are shown, in seconds since the first one.
        rule: which frame belongs to a time stamp.
        faults: gets rows that see no frame.
        tell: whether to warn.
    """
    firsts = dict(zip(times, np.cumsum([0, *map(len, times.values())]).tolist(), strict=False))
    step = 1 / layout.fps
    found: list[NDArray[np.int64]] = []
    short: list[str] = []
    long: list[str] = []
    for position, clip in enumerate(layout.clips(camera)):
        stamps, table = contents.stamps[position], contents.places[position].path
        name = clip.path.name if layout.version == 2 else whose(layout, position)
        try:
            first, shown = _shown(clip, times[clip.path], step)
            chosen = frames_of_rows(stamps, shown, step, table, clip.path, whose(layout, position), rule)
        except DatasetError as error:
            # Of a v3 set no episode can be left out by hand.
            faults.extend(
                replace(fault, helps=_LEAVE_OUT if layout.version == 2 else "") for fault in error.faults
            )
            continue
        found.append(firsts[clip.path] + first + chosen)
        if stamps[-1] > shown[-1] + step / 2:
            short.append(name)
        elif shown[-1] > stamps[-1] + 0.75 * max(step, usual_interval(shown)):
            long.append(name)
    if tell:
        _tell(layout, camera, short, "have a last row behind the last frame of its video, which it sees")
        _tell(layout, camera, long, "have a video that goes on after their last row, which no row sees")
    return np.concatenate(found) if found else np.empty(0, dtype=np.int64)


def _shown(clip: Clip, times: NDArray[np.float64], step: float) -> tuple[int, NDArray[np.float64]]:
    """The first frame of an episode, and when each of its frames is shown, in seconds since that.

    Times that were added up over many episodes differ from those in the file by fractions of a frame.
    """
    half = min(step, usual_interval(times) or step) / 2
    first, behind = np.searchsorted(times, [clip.start - half, clip.end - half]).tolist()
    if clip.start == 0:
        first = 0
    if first == behind or times[first] > clip.start + half:
        got = (
            f"its nearest later frame is at {times[first]:g} s" if first < len(times) else "it has none there"
        )
        what = f"an episode begins at {clip.start:g} s and ends at {clip.end:g} s, but {got}"
        raise error_of(Fault(clip.path, what))
    return first, times[first:behind] - times[first]


def _tell(layout: Layout, camera: str, names: Sequence[str], what: str) -> None:
    if names:
        more = ", ..." if len(names) > _MOST_NAMED else ""
        listed = ", ".join(names[:_MOST_NAMED]) + more
        count = len(layout.episodes)
        logger.warning(
            "%s: %s: %d of %d episodes %s: %s", layout.folder, camera, len(names), count, what, listed
        )
