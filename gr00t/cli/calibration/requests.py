"""What the policy is asked: recorded while it is unquantized, asked again to fix its static scales."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from gr00t.cli.calibration.sources import progress, request_seed
from gr00t.cli.errors import UsageError
from gr00t.eval.drift.digests import digest

if TYPE_CHECKING:
    from torch import nn

    from gr00t.model.policy import Gr00tPolicy
    from gr00t.quantization import DuQuantReport
    from gr00t.quantization.numerics.statistics import InputStatistics

T = TypeVar("T")

logger = logging.getLogger("gr00t.calibrate")

# Rows of a layer's input below which what rounding by them gains is a good part less.
FEW_ROWS = 512


class Recorded(NamedTuple):
    """What requests have left.

    Attributes:
        statistics: of the layers' inputs, by name.
        replayed: the requests, by their numbers, that fix the static scales.
        left_out: how many were not believed.
        rows: kept to round by, of the layer with the fewest.
        digests: of all observations that were asked, in their order; see `gr00t.eval.drift.digests`.
    """

    statistics: Mapping[str, InputStatistics]
    replayed: list[tuple[int, dict[str, Any]]]
    left_out: int
    rows: int
    digests: list[str]


def record(
    policy: Gr00tPolicy,
    layers: Mapping[str, nn.Linear],
    observations: Iterable[dict[str, Any]],
    *,
    requests: int,
    replays: int,
    seed: int,
) -> Recorded:
    """Let the policy answer until `requests` observations agree, and record what its layers are called with.

    Args:
        policy: unquantized.
        layers: of its model, by name.
        observations: more than `requests` where some are not believed.
        requests: how many to record.
        replays: how many of them are to be asked again, spread over all.
        seed: of the flow noise.

    Raises:
        UsageError: there are too few observations.
    """
    from gr00t.quantization.calibration.recording import record_inputs
    from gr00t.quantization.numerics.statistics import ROUNDED_BY_ROWS, rows_to_keep

    candidates = []
    digests = []
    rows = -(-rows_to_keep(layer.in_features for layer in layers.values()) // requests)
    with record_inputs(policy.model, layers, rows) as recording, progress("recording", requests) as bar:
        for index, observation in enumerate(observations):
            answer(policy, observation, index, seed)
            digests.append(digest(observation))
            group = recording.latest
            if group is not None and replays:
                candidates.append((group, index, observation))
            bar.update(recording.requests - bar.n)
            if recording.requests == requests:
                break
    found, odd = recording.requests, recording.left_out
    statistics = recording.statistics() if found or odd else {}
    if found < requests:
        left_out = f" and {odd} more are left out (see above)" if odd else ""
        raise UsageError(
            f"{found} observations are there{left_out}, {requests} are to be used; give "
            f"--requests {found}, or more observations"
        )
    decided = [(index, seen) for group, index, seen in candidates if recording.decides(group)]
    rows = min(len(seen.inputs.load()) for seen in statistics.values() if seen.inputs is not None)
    if rows < FEW_ROWS:
        logger.warning(
            "[GR00T-DUQUANT] Weights are rounded by %d rows of a layer's inputs, %d are wanted; on a "
            "sentence encoder 128 rows gained half of what 708 gained: give more observations",
            *(rows, ROUNDED_BY_ROWS),
        )
    return Recorded(statistics, spread(decided, replays), odd, rows, digests)


def spread(items: Sequence[T], count: int) -> list[T]:
    """Return `count` of `items`, spread over all of them: in rollouts the first are all beginnings."""
    count = min(count, len(items))
    return [items[index * len(items) // count] for index in range(count)]


def replay(
    policy: Gr00tPolicy, report: DuQuantReport, observations: list[tuple[int, dict[str, Any]]], seed: int
) -> None:
    """Let the quantized policy answer requests, by their numbers, until its static scales are fixed.

    Raises:
        UsageError: they were not, since the quantized layers disagree about the requests.
    """
    with progress("static scales", len(observations)) as bar:
        for index, observation in observations:
            if not report.pools_requests:
                break  # all of them were restored
            answer(policy, observation, index, seed)
            bar.update()
    if report.pools_requests:
        raise UsageError(
            f"the static scales are not fixed: of {len(observations)} requests too many are left out, see "
            "above; calibrate by other observations, or with GR00T_DUQUANT_CALIB_STEPS=0"
        )


def answer(policy: Gr00tPolicy, observation: dict[str, Any], index: int, seed: int) -> dict[str, Any]:
    """Answer request number `index`; its noise depends on nothing else and the seed."""
    from gr00t.data.errors import ObservationError

    try:
        return policy.get_action(observation, seeds=request_seed(seed, index))
    except ObservationError as error:
        raise ObservationError(f"observation {index}: {error}") from error
