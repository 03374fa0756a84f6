"""Open-loop evaluation: what a policy would have done at the time steps of recorded episodes.

At every H-th step the policy sees what was recorded and answers with a chunk of actions, of which H are laid
beside those that were recorded. Nothing moves, so errors do not add up as they do on a robot: this tells
whether a policy has learned its data and whether quantization changed it, not whether it solves its task.

The mean squared error over all steps and numbers of an episode is what Isaac-GR00T N1.5 prints.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

Act = Callable[[dict[str, Any], int], Mapping[str, Any]]


class OpenLoopError(ValueError):
    """An evaluation that cannot be done; the message says what does not fit."""


class Recordings(Protocol):
    """Recorded episodes; `gr00t.data.dataset.LeRobotSingleDataset` is one."""

    def get_step_data(self, trajectory_id: int, base_index: int) -> dict[str, Any]:
        """Return what was recorded at a time step, and the actions from there on."""


@dataclass(frozen=True)
class Error:
    """How far actions are from the recorded ones, in the units of the data."""

    mse: float
    mae: float


@dataclass(frozen=True)
class Followed:
    """An episode and what a policy would have done, T steps of A numbers.

    Attributes:
        episode: its number.
        horizon: steps from one answer to the next.
        widths: numbers of each action key, in the order of the columns; keys without `action.`.
        recorded: (T, A).
        predicted: (T, A).
        states: (T, A), of the same keys; None where they were not asked for, or there are none of these keys
            and widths.
    """

    episode: int
    horizon: int
    widths: dict[str, int]
    recorded: NDArray[np.float64]
    predicted: NDArray[np.float64]
    states: NDArray[np.float64] | None = None

    @property
    def error(self) -> Error:
        """Over all steps and numbers."""
        return _error(self.predicted - self.recorded)

    @property
    def columns(self) -> list[str]:
        """A name for each number: `x`, or `arm[0]` where a key has several."""
        return [
            f"{key}[{place}]" if width > 1 else key
            for key, width in self.widths.items()
            for place in range(width)
        ]

    def errors(self) -> dict[str, Error]:
        """By key, over all steps."""
        ends = np.cumsum(list(self.widths.values()))
        parts = np.split(self.predicted - self.recorded, ends[:-1], axis=1)
        return {key: _error(part) for key, part in zip(self.widths, parts, strict=True)}


def follow(
    act: Act,
    recordings: Recordings,
    episode: int,
    keys: Sequence[str],
    steps: int,
    horizon: int,
    *,
    with_states: bool = False,
) -> Followed:
    """Ask a policy along an episode.

    Args:
        act: returns the actions, per key (H', A) or (H',), for an observation at a step; H' at least
            `horizon`.
        recordings: of which an episode is followed, with at least `horizon` steps of actions each.
        episode: its number.
        keys: of the actions to compare, without `action.`.
        steps: how many to compare; behind the end of an episode its last row goes on.
        horizon: steps from one answer to the next.
        with_states: also collect `state.` of the keys.

    Raises:
        OpenLoopError: a key or a step is missing on one side, or the policy answers with what is no number.
    """
    if not keys or steps < 1 or horizon < 1:
        raise OpenLoopError(
            f"expected at least one key, one step and a horizon of one; got {keys}, {steps}, {horizon}"
        )
    recorded, predicted = [], []
    states: list[list[Any]] = []
    widths: dict[str, int] = {}
    for step in range(steps):
        asked = step % horizon == 0
        sample = recordings.get_step_data(episode, step) if asked or with_states else {}
        states.append([sample.get(f"state.{key}") for key in keys])
        if asked:
            seen = {key: value for key, value in sample.items() if not key.startswith("action.")}
            actions = act(seen, step)
            for later in range(min(horizon, steps - step)):
                told = {key: sample.get(f"action.{key}") for key in keys}
                row = _row(told, later, "the recorded actions")
                widths = {key: len(np.atleast_1d(np.asarray(told[key])[later])) for key in keys}
                answer = {key: actions.get(f"action.{key}") for key in keys}
                given = _row(answer, later, "the policy's answer")
                if len(given) != len(row):
                    raise OpenLoopError(
                        f"the policy answers with {len(given)} numbers for {', '.join(keys)}, recorded are "
                        f"{len(row)}"
                    )
                recorded.append(row)
                predicted.append(given)
    if not np.isfinite(predicted).all():
        raise OpenLoopError(f"episode {episode}: the policy answers with inf or nan")
    return Followed(
        episode,
        horizon,
        widths,
        np.asarray(recorded, dtype=np.float64),
        np.asarray(predicted, dtype=np.float64),
        _states(states, widths) if with_states else None,
    )


def mean_error(errors: Sequence[Error]) -> Error:
    """The mean over episodes, each counting once."""
    return Error(
        float(np.mean([error.mse for error in errors])), float(np.mean([error.mae for error in errors]))
    )


def _states(values: Sequence[Sequence[Any]], widths: Mapping[str, int]) -> NDArray[np.float64] | None:
    """What was sensed at each step, (T, A), if that is of the same keys and widths as the actions."""
    other = [
        key
        for (key, width), value in zip(widths.items(), values[0], strict=True)
        if value is None or np.size(value[0]) != width
    ]
    if other:
        logger.warning("there is no state of the name and width of %s: states are left out", ", ".join(other))
        return None
    rows = [np.concatenate([np.atleast_1d(value[0]) for value in step]) for step in values]
    return np.asarray(rows, dtype=np.float64)


def _error(differences: NDArray[np.float64]) -> Error:
    return Error(float(np.mean(differences**2)), float(np.mean(np.abs(differences))))


def _row(values: Mapping[str, Any], place: int, whose: str) -> NDArray[Any]:
    """The numbers of all keys at one place of a chunk, one after the other."""
    parts = []
    for key, value in values.items():
        if value is None:
            raise OpenLoopError(f"{whose}: there is no {key!r}")
        if len(value) <= place:
            raise OpenLoopError(
                f"{whose}: {key} has {len(value)} steps, a horizon of at least {place + 1} was asked for"
            )
        parts.append(np.atleast_1d(np.asarray(value[place])))
    return np.concatenate(parts)
