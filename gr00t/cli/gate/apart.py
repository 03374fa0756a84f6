"""What calibrates never judges, also where a calibration is older than the comparison: packs and servers."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from gr00t.eval.drift.chunks import DriftError
from gr00t.eval.drift.observed import ObservedEpisodes, check_digests_apart
from gr00t.quantization.calibration.record import DIGESTS

logger = logging.getLogger("gr00t.drift")


def check_calibrated_apart(
    name: str, calibration: Mapping[str, Any] | None, judged: ObservedEpisodes
) -> None:
    """Check that an arm is not judged by what it was calibrated by; warn where nobody knows.

    Args:
        name: of the arm.
        calibration: what calibration.json says, beside its packs or in what was exported; None: unknown.
        judged: the observations.

    Raises:
        DriftError: an observation is among both.
    """
    digests = None if calibration is None else calibration.get(DIGESTS)
    if not isinstance(digests, list):
        logger.warning(
            "%s: which observations calibrated it is not recorded: be sure that none of them judges", name
        )
        return
    try:
        check_digests_apart(map(str, digests), judged.observations)
    except DriftError as error:
        raise DriftError(f"arm {name}: {error}") from error
