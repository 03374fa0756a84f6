"""What makes a demonstration clumsy, so that it shows how to recover: pushes aside, and grasps that miss.

The expert's actions are disturbed on the way to the arm, but recorded as it meant them (DART, arXiv
1703.09327): so the recording shows how to come back from where a clumsy learner gets to. The arm is pushed
for some steps on end, since independent noise on every step cancels out before the hand has moved, and then
left in peace, since what is to be learned last is to close the fingers in the right place. Where they closed
beside it all the same, a learner that never saw that carries nothing to the goal: so some grasps are made to
miss, and the expert opens its fingers and goes back.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gr00t.libero.expert.motion import CLOSE, OPEN, Action

# Rotations less than translations: a full unit of command turns the hand by half a radian.
_SCALE = np.array([1.0, 1.0, 1.0, 0.15, 0.15, 0.3])
# Control steps of a push, and between two of them.
_PUSH, _PAUSE = (3, 8), (4, 20)
# While something is held a push makes it slip, and what follows shows nothing.
_WHILE_HOLDING = 0.4
# The vertical command of a hand that is 2 to 5 cm above what it is about to grasp, and the largest sideways.
_DESCENDING, _ABOVE = (-0.7, -0.3), 0.4
# Chance, at full level, that a grasp goes wrong at such a step; how many may in an episode; and control steps
# without pushes from there on, in which the expert goes back and grasps.
_MISS, _MISSES, _PEACE = 0.2, 2, 40
# Control steps of the parts of a miss: away from the object, down, closing there, and up. A hand that holds
# still for longer has met something, the expert thinks.
_ASIDE, _DOWN, _CLOSING, _UP = (4, 7), (0, 4), (4, 7), (6, 16)


class Disturbance:
    """Pushes aside, each for a few steps, with pauses in which the expert finds back and goes on; and misses.

    Args:
        level: the largest size of a push, in units of the command, and the share of the largest chance of a
            miss; 0 for none of either.
        random: where they come from.
    """

    def __init__(self, level: float, random: np.random.Generator) -> None:
        self._level = level
        self._random = random
        self._push = np.zeros(6)
        self._pushes = False
        self._left = 0
        self._miss: Iterator[Action] = iter(())
        self._misses = 0

    def __call__(self, meant: Action) -> Action:
        """The action (7,) that is executed instead of `meant`."""
        if not self._level:
            return meant.copy()
        executed = next(self._miss, None)
        if executed is None and self._begins_to_miss(meant):
            self._misses += 1
            self._miss = miss(self._random)
            executed = next(self._miss)
        if executed is None:
            return self._pushed(meant)
        self._pushes, self._left, self._push = False, _PEACE, np.zeros(6)
        return executed

    def _begins_to_miss(self, meant: Action) -> bool:
        return self._misses < _MISSES and descends(meant) and self._random.random() < self._level * _MISS

    def _pushed(self, meant: Action) -> Action:
        if not self._left:
            self._pushes = not self._pushes
            self._left = int(self._random.integers(*(_PUSH if self._pushes else _PAUSE), endpoint=True))
            self._push = self._random.uniform(-1.0, 1.0, 6) * _SCALE * self._pushes
        self._left -= 1
        share = _WHILE_HOLDING if meant[6] == CLOSE else 1.0
        executed = meant.copy()
        executed[:6] += share * self._level * self._push
        return np.clip(executed, -1.0, 1.0)


def descends(meant: Action) -> bool:
    """Whether the hand comes down with open fingers on something that is close below it."""
    low, high = _DESCENDING
    return bool(meant[6] == OPEN and low <= meant[2] <= high and np.abs(meant[:2]).max() <= _ABOVE)


def miss(random: np.random.Generator) -> Iterator[Action]:
    """Actions (7,) that take open fingers beside what they were to grasp, close them there and raise them."""
    direction = random.uniform(0.0, 2.0 * np.pi)
    aside = np.array([np.cos(direction), np.sin(direction)])
    astray = random.uniform(-0.5, 0.5, 2)
    for steps, sideways, vertical, gripper in (
        (_ASIDE, aside, -0.1, OPEN),
        (_DOWN, np.zeros(2), -0.6, OPEN),
        (_CLOSING, np.zeros(2), 0.0, CLOSE),
        (_UP, astray, 0.7, CLOSE),
    ):
        for _ in range(random.integers(*steps, endpoint=True)):
            yield np.array([*sideways, vertical, 0.0, 0.0, 0.0, gripper])
