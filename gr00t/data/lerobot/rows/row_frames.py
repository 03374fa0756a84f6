"""Which frame of its video a row of a data set sees.

A row has a `timestamp`, in seconds since its video began. In Isaac-GR00T N1.5 the decoder decides which frame
that is: with decord the one shown nearest to it, before or after, and of two equally near the earlier; with
torchcodec the last one that is not later. Where row i carries i / fps, the nearest one is frame i. It is not
where stamps start later, frames were dropped, or the video runs at another rate than the rows. The last one
is frame i - 1 wherever float32, in which LeRobot writes stamps, rounds i / fps down: in a third to half of
all rows.

Behind the last frame, and before the first, up to one step is filled with that frame, as there: NVIDIA's own
demonstrations are stamped at the end of each step. A stamp farther from every frame than a step belongs to
another video or is in another unit; that, and stamps that do not increase, is refused, where the reference
would show some frame.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gr00t.data.lerobot.meta.faults import Fault, error_of

TIMESTAMP = "timestamp"
FrameRule = Literal["nearest", "last"]
# What each of N1.5's decoders does.
RULE_OF_BACKEND: dict[str, FrameRule] = {
    "decord": "nearest",
    "opencv": "nearest",
    "torchcodec": "last",
    "torchvision_av": "last",
}
# Stamps are float32 and frames are shown at multiples of the container's clock: differences below this mean
# nothing (LeRobot allows as much).
_NOTHING = 1e-4
# Of two float64 that mean the same time; float32 stamps differ by more.
_ROUNDING = 1e-11


def check_stamps(stamps: NDArray[Any], table: Path, whose: str = "") -> NDArray[np.float64]:
    """Return the time stamps of an episode's rows, (T,) in seconds.

    Args:
        stamps: of the rows, (T,) or (T, 1).
        table: the rows' file, for messages.
        whose: of which episode in it, for messages; empty where the file is the episode.

    Raises:
        DatasetError: a stamp is no finite number, or not later than the one before it.
    """
    place = f"{whose}, row" if whose else "row"
    if stamps.dtype == bool or stamps.size != len(stamps):
        got = stamps[0].tolist()
        raise error_of(Fault(table, f"{TIMESTAMP}: {place} 0: expected seconds, got {got!r}"))
    seconds = stamps.reshape(-1).astype(np.float64)
    for row in np.flatnonzero(~np.isfinite(seconds))[:1].tolist():
        raise error_of(Fault(table, f"{TIMESTAMP}: {place} {row}: expected seconds, got {seconds[row]}"))
    for row in np.flatnonzero(np.diff(seconds) <= 0)[:1].tolist():
        what = f"{seconds[row]:g} s, then {seconds[row + 1]:g} s"
        what = f"{TIMESTAMP}: {place} {row + 1} is not later than the one before it: {what}"
        raise error_of(Fault(table, what))
    return seconds


def frames_of_rows(
    stamps: NDArray[np.float64],
    times: NDArray[np.float64],
    step: float,
    table: Path,
    video: Path,
    whose: str = "",
    rule: FrameRule = "nearest",
) -> NDArray[np.int64]:
    """Return the number of the frame that each row sees, (T,).

    Args:
        stamps: of the rows, (T,) in seconds.
        times: when the frames are shown, (F,) ascending, in seconds (`video_files.frame_times`).
        step: seconds between rows, by the data set's description.
        table: the rows' file, for messages.
        video: the frames' file, for messages.
        whose: of which episode in them, for messages; empty where the file is the episode.
        rule: the nearest frame, or the last one that is not later.

    Raises:
        DatasetError: a row is farther from every frame than a step, of rows or of frames.
    """
    if rule == "last":
        chosen = (np.searchsorted(times, stamps + _ROUNDING, side="right") - 1).clip(0)
    else:
        later = np.searchsorted(times, stamps).clip(0, len(times) - 1)
        earlier = (later - 1).clip(0)
        to_later, to_earlier = np.abs(times[later] - stamps), np.abs(times[earlier] - stamps)
        chosen = np.where(to_later < to_earlier - _NOTHING, later, earlier)
    reach = max(step, usual_interval(times))
    far = np.abs(times[chosen] - stamps) > reach + 10 * _NOTHING
    place = f"{whose}, row" if whose else "row"
    which = "the nearest frame" if rule == "nearest" else "the last frame until then"
    for row in np.flatnonzero(far)[:1].tolist():
        more = f", and so are {int(far.sum()) - 1} more rows" if far.sum() > 1 else ""
        what = (
            f"{TIMESTAMP}: {place} {row} is at {stamps[row]:g} s, {which} of {video} at "
            f"{times[chosen[row]]:g} s{more}"
        )
        raise error_of(Fault(table, what, allowed=f"at most {reach:g} s apart are expected"))
    return chosen.astype(np.int64)


def usual_interval(times: NDArray[np.float64]) -> float:
    """Seconds from one frame to the next, the median; 0 of a single frame."""
    return float(np.median(np.diff(times))) if len(times) > 1 else 0.0
