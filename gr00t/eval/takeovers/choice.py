"""At which steps of a policy's episode the expert takes over.

DAgger labels the states that the policy visits, as often as it visits them: every step may be chosen. But an
episode is decided within few of its steps, where the fingers close. Around these the expert takes over four
times as often as elsewhere: shortly before, where the hand can still be led to the right place, and shortly
after, where it must go back and try again. All that is known once the episode has ended, which is why the
expert goes back to the steps instead of interrupting; and from a failed episode it takes over more often than
from a solved one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Control steps before and after the command to close the fingers that count as near it, a second and half a
# second; and how much likelier they are.
BEFORE, AFTER = 20, 10
NEAR = 4.0
# Two takeovers of an episode are at least so many steps apart: nearer ones would show nearly the same.
APART = 8


def closings(gripper: NDArray[np.float64]) -> NDArray[np.int64]:
    """Steps at which the command (T,), above 0 to close, begins to; also the first one if it does."""
    closes = gripper > 0.0
    return np.flatnonzero(closes & ~np.concatenate([[False], closes[:-1]]))


def likelihoods(gripper: NDArray[np.float64]) -> NDArray[np.float64]:
    """How likely the expert takes over after each of T steps of an episode, (T,), summing to 1.

    Args:
        gripper: the command at each step, (T,), above 0 to close the fingers.
    """
    weights = np.ones(len(gripper))
    for step in closings(gripper):
        weights[max(0, step - BEFORE) : step + AFTER] = NEAR
    return weights / weights.sum()


def takeover_steps(gripper: NDArray[np.float64], count: int, random: np.random.Generator) -> list[int]:
    """Draw steps of an episode after which the expert takes over, in order; fewer if they do not fit.

    Args:
        gripper: see `likelihoods`; of an episode of T steps.
        count: how many at most.
        random: where they come from.

    Returns:
        Steps from 0 to T - 1, at least `APART` apart.
    """
    left = likelihoods(gripper)
    chosen: list[int] = []
    while len(chosen) < count and left.any():
        step = int(random.choice(len(left), p=left / left.sum()))
        chosen.append(step)
        left[max(0, step - APART + 1) : step + APART] = 0.0
    return sorted(chosen)
