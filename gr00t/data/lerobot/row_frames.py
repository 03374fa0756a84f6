"""Which frame of its video a row of a data set sees.

A row has a `timestamp`, in seconds since its video began, and sees the frame that was shown nearest to it, as
in Isaac-GR00T N1.5 with its default decoder: before or after; of two equally near, the earlier. Where row i
carries i / fps, that is frame i. It is not where stamps start later, frames were dropped, or the video runs
at another rate than the rows.

Behind the last frame, and before the first, up to one step is filled with that frame, as there: NVIDIA's own
demonstrations are stamped at the end of each step. A stamp farther from every frame than a step belongs to
another video or is in another unit; that, and stamps that do not increase, is refused, where the reference
would show some frame.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gr00t.data.lerobot.layout import DatasetError

TIMESTAMP = "timestamp"
# Stamps are float32 and frames are shown at multiples of the container's clock: differences below this mean
# nothing (LeRobot allows as much).
_NOTHING = 1e-4


def check_stamps(stamps: list[Any], table: Path) -> NDArray[np.float64]:
    """Return the time stamps of an episode's rows, (T,) in seconds.

    Args:
        stamps: of each row a number, or a list of one.
        table: the rows' file, for messages.

    Raises:
        DatasetError: a stamp is missing, no finite number, or not later than the one before it.
    """
    seconds = np.empty(len(stamps))
    for row, stamp in enumerate(stamps):
        value = stamp[0] if isinstance(stamp, list) and len(stamp) == 1 else stamp
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise DatasetError(f"{table}: {TIMESTAMP}: row {row}: expected seconds, got {stamp!r}")
        if row and value <= seconds[row - 1]:
            raise DatasetError(
                f"{table}: {TIMESTAMP}: row {row} is not later than the one before it: "
                f"{seconds[row - 1]:g} s, then {value:g} s"
            )
        seconds[row] = value
    return seconds


def nearest_frames(
    stamps: NDArray[np.float64], times: NDArray[np.float64], step: float, table: Path, video: Path
) -> NDArray[np.int64]:
    """Return the number of the frame that each row sees, (T,).

    Args:
        stamps: of the rows, (T,) in seconds.
        times: when the frames are shown, (F,) ascending, in seconds (`video_files.frame_times`).
        step: seconds between rows, by the data set's description.
        table: the rows' file, for messages.
        video: the frames' file, for messages.

    Raises:
        DatasetError: a row is farther from every frame than a step, of rows or of frames.
    """
    later = np.searchsorted(times, stamps).clip(0, len(times) - 1)
    earlier = (later - 1).clip(0)
    to_later, to_earlier = np.abs(times[later] - stamps), np.abs(times[earlier] - stamps)
    chosen = np.where(to_later < to_earlier - _NOTHING, later, earlier)
    reach = max(step, float(np.median(np.diff(times))) if len(times) > 1 else 0.0)
    far = np.abs(times[chosen] - stamps) > reach + 10 * _NOTHING
    for row in np.flatnonzero(far).tolist():
        raise DatasetError(
            f"{table}: {TIMESTAMP}: row {row} is at {stamps[row]:g} s, the nearest frame of {video} at "
            f"{times[chosen[row]]:g} s; at most {reach:g} s apart are expected"
        )
    return chosen.astype(np.int64)
