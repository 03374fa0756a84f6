"""The answers of a policy to observations, as numbers that can be compared with another policy's.

N observations, H time steps of a chunk (the action horizon), A numbers of an action.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gr00t.data.errors import ObservationError

_PREFIX = "action."


class DriftError(ValueError):
    """Answers that cannot be compared, or observations that cannot be judged by; the message says why."""


class Asked(Protocol):
    """A policy that answers one observation: one of this process, or a server's client."""

    def get_action(self, observations: dict[str, Any], *, seed: int | None = None) -> Mapping[str, Any]:
        """Return a chunk, per action key (H,) or (H, width); `seed` fixes the flow noise."""


@dataclass(frozen=True)
class Chunks:
    """Answers to N observations.

    Attributes:
        widths: numbers of each action key, in the order of the columns; keys without `action.`.
        values: (N, H, A) float64, in the units of the data.
    """

    widths: dict[str, int]
    values: NDArray[np.float64]

    def columns(self, keys: Sequence[str]) -> NDArray[np.bool_]:
        """Which columns belong to `keys`, (A,)."""
        return np.repeat([key in keys for key in self.widths], list(self.widths.values()))


def answer_all(
    policy: Asked,
    observations: Sequence[dict[str, Any]],
    seeds: Sequence[int],
    on_answer: Callable[[], object] = lambda: None,
) -> Chunks:
    """Let a policy answer observations, one at a time: what shares a forward has other last bits.

    Args:
        policy: answers.
        observations: at least one.
        seeds: of the flow noise, one for each; the same ones for every policy that is compared.
        on_answer: told after each.

    Raises:
        DriftError: an answer has other keys or another shape than the first, or a number is not finite.
        ObservationError: an observation is not what the policy takes.
    """

    def answered() -> Iterator[Mapping[str, Any]]:
        for index, (observation, seed) in enumerate(zip(observations, seeds, strict=True)):
            try:
                yield policy.get_action(observation, seed=seed)
            except ObservationError as error:
                raise ObservationError(f"observation {index}: {error}") from error
            on_answer()

    return chunks_of(answered())


def chunks_of(answers: Iterable[Mapping[str, Any]]) -> Chunks:
    """Return answers to observations, each per action key (H,) or (H, width), as numbers.

    Raises:
        DriftError: as `answer_all`.
    """
    widths: dict[str, int] = {}
    chunks: list[NDArray[np.float64]] = []
    for index, answer in enumerate(answers):
        parts = {key.removeprefix(_PREFIX): _rows(value) for key, value in answer.items()}
        found = {key: part.shape[1] for key, part in parts.items()}
        lengths = {len(part) for part in parts.values()}
        widths = widths or found
        if found != widths or len(lengths) != 1 or (chunks and lengths != {len(chunks[0])}):
            shapes = {key: part.shape for key, part in parts.items()}
            raise DriftError(f"observation {index}: the answer's shapes {shapes} are not those of the first")
        chunk = np.concatenate([parts[key] for key in widths], axis=1)
        if not np.isfinite(chunk).all():
            raise DriftError(f"observation {index}: the policy answers with inf or nan")
        chunks.append(chunk)
    if not chunks:
        raise DriftError("no observation to be answered")
    return Chunks(widths, np.stack(chunks))


def check_comparable(arm: Chunks, base: Chunks) -> None:
    """Check that two policies have answered the same observations by the same kind of action.

    Raises:
        DriftError: keys, widths, horizon or number are different.
    """
    if arm.widths != base.widths:
        raise DriftError(f"actions of other keys or widths: {arm.widths}, the base's are {base.widths}")
    if arm.values.shape != base.values.shape:
        raise DriftError(f"answers (N, H, A) of shape {arm.values.shape}, the base's are {base.values.shape}")


def _rows(value: Any) -> NDArray[np.float64]:
    """A key's part of a chunk as (H, width)."""
    array = np.asarray(value, dtype=np.float64)
    if array.ndim not in (1, 2):
        raise DriftError(f"expected a chunk (H,) or (H, width) of one observation, got {array.shape}")
    return array.reshape(len(array), -1)
