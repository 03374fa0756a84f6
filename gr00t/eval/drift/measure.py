"""The drift of an arm: how far its actions are from the base's, under the same flow noise.

Of an observation, b the base's chunk and a the arm's, over the executed actions and all columns but the
grippers':

    error = |a - b| / |b|,      err = geometric mean of the errors of all observations

The geometric mean, since a few observations at which a policy hesitates between two motions would rule any
other: over seven arms of the demonstration policy it ordered what was lost in closed loop, where the 90th
percentile and the RMS over everything swap arms. A gripper is left out: it opens or closes, so a change of
mind would be most of the norm; how often it does is counted instead.

The error is of the action as it is commanded. Where a robot is sent absolute positions, |b| is large and err
small for the same motion: the thresholds (`verdict`) are of commanded changes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gr00t.eval.drift.chunks import Chunks, DriftError, check_comparable
from gr00t.eval.drift.episode_bootstrap import geometric_mean_interval
from gr00t.eval.drift.executed import EXECUTED
from gr00t.eval.drift.logarithms import geometric_mean
from gr00t.eval.statistics.intervals import Interval

# Of the typical chunk's norm: below it a robot holds still, and a relative error would be of nothing.
_STILL = 1e-3
_THIRD = 3

# Action keys that are no motion, and the number, or one for each of its columns, at which each changes sides.
Grippers = Mapping[str, "float | NDArray[np.float64]"]


@dataclasses.dataclass(frozen=True)
class Drift:
    """What was measured of an arm.

    Attributes:
        err: geometric mean of the errors of all observations.
        interval: 95 % of it, by a bootstrap over episodes.
        p90: the 90th percentile of the errors.
        flips: share of the executed steps at which a gripper is on the other side; None without a gripper.
        jerk: RMS of the third differences of the executed motion, of the base's; None where a chunk is
            shorter than four actions or the base's motion has none.
        by_step: err of each step of the horizon, (H,): of the difference at that step alone.
        errors: of each observation, (N,).
    """

    err: float
    interval: Interval
    p90: float
    flips: float | None
    jerk: float | None
    by_step: list[float]
    errors: list[float]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return dataclasses.asdict(self)


def measure(
    arm: Chunks,
    base: Chunks,
    episodes: Sequence[Hashable],
    grippers: Grippers,
    executed: int = EXECUTED,
) -> Drift:
    """Compare the answers of an arm with those of the base.

    Args:
        arm: its answers.
        base: the answers of the policy as it is, to the same observations under the same noise.
        episodes: which episode each observation is from.
        grippers: see above.
        executed: actions of a chunk that a robot executes before it asks again.

    Raises:
        DriftError: the answers are not comparable, `executed` is not within the horizon, no column is a
            motion, or the base never moves.
    """
    errors = relative_errors(arm, base, grippers, executed)
    return Drift(
        err=geometric_mean(errors),
        interval=geometric_mean_interval(errors, episodes),
        p90=float(np.percentile(errors, 90)),
        flips=_flips(arm, base, grippers, executed),
        jerk=_jerk_ratio(arm, base, grippers, executed),
        by_step=[geometric_mean(step) for step in step_errors(arm, base, grippers, executed).T],
        errors=errors.tolist(),
    )


def relative_errors(
    arm: Chunks, base: Chunks, grippers: Grippers, executed: int = EXECUTED
) -> NDArray[np.float64]:
    """Return the error of each observation, (N,); see `measure`."""
    # By steps, so that the errors of the executed steps are those of which this is the RMS.
    return np.sqrt(np.mean(step_errors(arm, base, grippers, executed)[:, :executed] ** 2, axis=1))


def step_errors(
    arm: Chunks, base: Chunks, grippers: Grippers, executed: int = EXECUTED
) -> NDArray[np.float64]:
    """Return the difference at each step, (N, H), of the RMS of the base's executed steps; see `measure`."""
    check_comparable(arm, base)
    moved, other = (_motion(chunks, grippers, executed) for chunks in (base, arm))
    scale = np.sqrt(np.mean(np.sum(moved[:, :executed] ** 2, axis=2), axis=1))
    typical = float(np.sqrt(np.mean(scale**2)))
    if typical == 0.0:
        raise DriftError("the base's executed actions are all zero: nothing to compare with")
    difference = np.linalg.norm(other - moved, axis=2)
    return difference / np.maximum(scale, _STILL * typical)[:, None]


def _motion(chunks: Chunks, grippers: Grippers, executed: int) -> NDArray[np.float64]:
    """The columns that are motions, (N, H, A')."""
    unknown = [key for key in grippers if key not in chunks.widths]
    if unknown:
        raise DriftError(f"no action {unknown[0]!r} to be a gripper; known: {', '.join(chunks.widths)}")
    columns = ~chunks.columns(list(grippers))
    if not columns.any():
        raise DriftError(f"all actions are grippers ({', '.join(grippers)}): no motion to compare")
    horizon = chunks.values.shape[1]
    if not 1 <= executed <= horizon:
        raise DriftError(f"{executed} executed actions: expected 1 to {horizon}, as many as a chunk has")
    return chunks.values[:, :, columns]


def _flips(arm: Chunks, base: Chunks, grippers: Grippers, executed: int) -> float | None:
    if not grippers:
        return None
    flipped = []
    for key, middle in grippers.items():
        columns = base.columns([key])
        one, other = (chunks.values[:, :executed, columns] > middle for chunks in (arm, base))
        flipped.append(one != other)
    return float(np.mean(np.any(np.concatenate(flipped, axis=2), axis=2)))


def _jerk_ratio(arm: Chunks, base: Chunks, grippers: Grippers, executed: int) -> float | None:
    if executed <= _THIRD:
        return None
    ours, theirs = (
        float(
            np.sqrt(np.mean(np.diff(_motion(chunks, grippers, executed)[:, :executed], _THIRD, axis=1) ** 2))
        )
        for chunks in (arm, base)
    )
    if theirs == 0.0:
        return None
    return ours / theirs
