"""What calibrated an arm earlier does not judge it. Oracle: the texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gr00t.cli.gate.apart import check_calibrated_apart
from gr00t.eval.drift.chunks import DriftError
from gr00t.eval.drift.digests import digest
from gr00t.eval.drift.observed import ObservedEpisodes

SEEN = [{"x": np.asarray([number])} for number in range(4)]
JUDGED = ObservedEpisodes(SEEN, [0, 0, 1, 1])


def test_what_calibrated_an_arm_earlier_does_not_judge_it(caplog: pytest.LogCaptureFixture) -> None:
    others = {"observation_digests": [digest({"x": np.asarray([9])})]}
    check_calibrated_apart("mine", others, JUDGED)
    assert caplog.messages == []
    common = {"observation_digests": [digest({"x": np.asarray([number])}) for number in (2, 3, 4)]}
    with pytest.raises(DriftError, match=r"^arm mine: 2 of the observations to judge by are among those to"):
        check_calibrated_apart("mine", common, JUDGED)


@pytest.mark.parametrize("calibration", [None, {}, {"observation_digests": "text"}])
def test_a_calibration_that_nobody_knows_is_told(
    calibration: dict[str, Any] | None, caplog: pytest.LogCaptureFixture
) -> None:
    check_calibrated_apart("mine", calibration, JUDGED)
    assert caplog.messages == [
        "mine: which observations calibrated it is not recorded: be sure that none of them judges"
    ]
