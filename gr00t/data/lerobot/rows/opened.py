"""A data set as a data configuration wants it: everything but the frames themselves, all of it checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gr00t.data.dataset import ModalityConfig
from gr00t.data.lerobot.meta.faults import DatasetError, Fault
from gr00t.data.lerobot.meta.features import is_image
from gr00t.data.lerobot.meta.layout import Layout
from gr00t.data.lerobot.rows.camera_rows import missing_videos, rows_of_camera
from gr00t.data.lerobot.rows.contents import Contents, keys_of, read_contents
from gr00t.data.lerobot.rows.row_frames import FrameRule

TimesOf = Callable[[Sequence[Path]], Sequence[NDArray[np.float64]]]


@dataclass(frozen=True)
class OpenedSet:
    """What is known of a data set before a frame is decoded.

    Attributes:
        contents: states, actions, instructions, and where they are.
        videos: per camera with videos, the files.
        frame_of_row: per such camera, the frame that each row sees, (N,), counted over all of these.
    """

    contents: Contents
    videos: dict[str, list[Path]]
    frame_of_row: dict[str, NDArray[np.int64]]


def open_set(
    layout: Layout,
    modalities: Mapping[str, ModalityConfig],
    times_of: TimesOf,
    faults: list[Fault],
    rule: FrameRule = "nearest",
    *,
    tell: bool = True,
) -> OpenedSet | None:
    """Read and check what a data configuration wants; None, and faults, where something is wrong.

    Args:
        layout: of the data set.
        modalities: keys and time steps.
        times_of: tells when the frames of videos are shown, or raises what is wrong with them.
        faults: gets what is wrong.
        rule: which frame belongs to a time stamp.
        tell: whether to warn of what is odd but not wrong.
    """
    if not layout.episodes:
        if not faults:  # else they are the reason
            faults.append(Fault(layout.folder, "the data set has no episode"))
        return None
    before = len(faults)
    contents = read_contents(layout, modalities, faults)
    cameras = layout.modality.cameras
    keys = [key for key in keys_of(modalities, "video") if key in cameras]
    videos = {key: layout.videos(key) for key in keys if not is_image(layout.features, cameras[key])}
    frame_of_row = {}
    for key, files in videos.items():
        missing = missing_videos(layout, key)
        faults.extend(missing)
        if missing:
            continue
        try:
            times = dict(zip(files, times_of(files), strict=True))
        except DatasetError as error:
            faults.extend(error.faults)
            continue
        if contents is not None:
            frame_of_row[key] = rows_of_camera(layout, key, contents, times, rule, faults, tell=tell)
    if contents is None or len(faults) > before:
        return None
    return OpenedSet(contents, videos, frame_of_row)
