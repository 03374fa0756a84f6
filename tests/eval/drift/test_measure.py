"""The metric. Oracle: numbers computed by hand."""

from __future__ import annotations

import dataclasses
import json
import re
import warnings

import numpy as np
import pytest

from gr00t.eval.drift.chunks import Chunks, DriftError
from gr00t.eval.drift.measure import measure, relative_errors
from gr00t.eval.drift.verdict import verdict
from gr00t.eval.statistics.intervals import Interval

WIDTHS = {"x": 1, "gripper": 1, "y": 1}
GRIPPERS = {"gripper": 0.5}
EPISODES = ["a", "b"]


def chunks(values: np.ndarray) -> Chunks:
    return Chunks(WIDTHS, np.asarray(values, dtype=np.float64))


def base() -> Chunks:
    """Two observations, five steps: x, gripper, y are 3, 0, 4 in the one, at last ten times that,
    and 0, 1, 1 in the other.
    """
    return chunks([[[3, 0, 4]] * 4 + [[30, 0, 40]], [[0, 1, 1]] * 5])


def arm() -> Chunks:
    """Of the first x is off by 0.5 at every step, of the other y by 0.8 at the first. Two grippers flip."""
    values = base().values.copy()
    values[0, :, 0] += 0.5
    values[1, 0, 2] += 0.8
    values[0, 1, 1] = 0.51
    values[1, 4, 1] = 0.0  # beyond what is executed
    return chunks(values)


def test_every_figure_is_the_one_computed_by_hand() -> None:
    found = measure(arm(), base(), EPISODES, GRIPPERS, executed=4)
    # 0.5 sqrt(4) / (5 sqrt(4)) and 0.8 / sqrt(4).
    assert found.errors == pytest.approx([0.1, 0.4], rel=1e-12)
    assert found.err == pytest.approx(0.2, rel=1e-12)
    assert found.p90 == pytest.approx(0.37, rel=1e-12)
    assert found.flips == 1 / 8
    # At the first step 0.1 and 0.8; later 0.1 and none, which counts as what a float32 cannot show.
    late = np.sqrt(0.1 * 2.0**-24)
    assert found.by_step == pytest.approx([np.sqrt(0.08), late, late, late, late], rel=1e-12)
    assert found.jerk is None  # the base's motion has none
    assert found.interval.low < 0.2 < found.interval.high
    assert json.loads(json.dumps(found.to_dict()))["interval"].keys() == {"low", "high"}


def test_the_error_of_an_observation_is_the_rms_of_its_steps() -> None:
    found = relative_errors(arm(), base(), GRIPPERS, executed=5)
    assert found == pytest.approx([0.5 * np.sqrt(5 / 2600), 0.8 / np.sqrt(5)], rel=1e-12)


def test_jerk_is_of_the_executed_motion() -> None:
    """The third difference of t^3 is 6; a gripper's, and what is not executed, do not count."""
    t = np.arange(6.0)
    one = np.stack([t**3, t % 2, 0 * t], axis=1)
    one[5] = 100
    other = np.stack([2 * t**3, 0 * t, 0 * t], axis=1)
    found = measure(chunks([other, other]), chunks([one, one]), EPISODES, GRIPPERS, executed=5)
    assert found.jerk == pytest.approx(2.0, rel=1e-12)
    assert measure(chunks([other] * 2), chunks([one] * 2), EPISODES, GRIPPERS, executed=3).jerk is None


def test_the_base_itself_has_no_error_and_nothing_warns() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = measure(base(), base(), EPISODES, GRIPPERS, executed=4)
    assert (found.err, found.p90, found.flips, found.by_step) == (0.0, 0.0, 0.0, [0.0] * 5)
    assert (found.interval.low, found.interval.high) == (0.0, 0.0)


def test_a_robot_that_holds_still_is_measured_by_the_typical_motion() -> None:
    """Its own norm is 0; a thousandth of the RMS of all stands for it: (0 + 4 x 25) / 2 over 4 steps."""
    still = base().values.copy()
    still[1, :, 2] = 0.0
    moved = still.copy()
    moved[:, :, 0] += 0.01
    found = relative_errors(chunks(moved), chunks(still), GRIPPERS, executed=4)
    assert found == pytest.approx([0.01 / 5, 0.01 / (1e-3 * np.sqrt(12.5))], rel=1e-9)


def test_a_hand_of_two_grippers_flips_where_either_does() -> None:
    widths = {"arm": 1, "left_gripper": 1, "right_gripper": 1}
    one = Chunks(widths, np.asarray([[[1.0, -1, -1]] * 4] * 2))
    other = dataclasses.replace(one, values=one.values.copy())
    other.values[0, 0, 1:] = 1
    other.values[0, 1, 2] = 1
    found = measure(other, one, EPISODES, {"left_gripper": 0.0, "right_gripper": 0.0}, executed=4)
    assert found.flips == 2 / 8


def test_without_a_gripper_everything_is_a_motion() -> None:
    found = measure(arm(), base(), EPISODES, {}, executed=4)
    assert found.flips is None
    assert found.errors[0] == pytest.approx(np.sqrt(4 * 0.25 + 0.51**2) / 10, rel=1e-12)


@pytest.mark.parametrize(
    ("grippers", "executed", "told"),
    [
        ({"grip": 0.5}, 4, "no action 'grip' to be a gripper; known: x, gripper, y"),
        (dict.fromkeys(WIDTHS, 0.5), 4, "all actions are grippers (x, gripper, y): no motion to compare"),
        (GRIPPERS, 6, "6 executed actions: expected 1 to 5, as many as a chunk has"),
        (GRIPPERS, 0, "0 executed actions: expected 1 to 5, as many as a chunk has"),
    ],
)
def test_what_cannot_be_measured_is_refused(grippers: dict[str, float], executed: int, told: str) -> None:
    with pytest.raises(DriftError, match=f"^{re.escape(told)}$"):
        measure(arm(), base(), EPISODES, grippers, executed)


def test_a_base_that_never_moves_is_refused() -> None:
    nothing = chunks(np.zeros((2, 5, 3)))
    with pytest.raises(DriftError, match=r"^the base's executed actions are all zero"):
        measure(arm(), nothing, EPISODES, GRIPPERS, executed=4)


def test_the_thresholds_belong_to_pass_and_to_reject() -> None:
    errs = (0.0, 0.08, 0.0801, 0.1299, 0.13, 2.0)
    assert [verdict(err, Interval(err, err)) for err in errs] == [
        *("pass", "pass", "play episodes", "play episodes", "reject", "reject")
    ]


@pytest.mark.parametrize(
    ("err", "low", "high", "expected"),
    [
        # Arms of docs/QUALITY.md, section 8.
        (0.022, 0.018, 0.028, "pass"),
        (0.051, 0.040, 0.066, "pass"),
        (0.104, 0.078, 0.137, "play episodes"),
        (0.177, 0.127, 0.246, "reject"),
        # Two episodes, one of err 0.05 and one of 0.12.
        (0.077, 0.0014, 4.29, "play episodes"),
        (0.079, 0.06, 0.1299, "pass"),
        (0.079, 0.06, 0.13, "play episodes"),
    ],
)
def test_a_pass_takes_an_interval_below_what_is_rejected(
    err: float, low: float, high: float, expected: str
) -> None:
    assert verdict(err, Interval(low, high)) == expected
