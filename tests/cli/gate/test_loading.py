"""Whether an arm became what it is called. Oracle: the texts."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from gr00t.cli.gate.arguments import DriftArguments
from gr00t.cli.gate.arms import settle_arms
from gr00t.cli.gate.loading import check_quantized
from gr00t.eval.drift.chunks import DriftError

WHOLE = {"enabled": True, "layers_quantized": 18, "layers_informed": 18, "calibrating": False}


@pytest.mark.parametrize(
    ("packs", "changes", "told"),
    [
        (False, {"layers_quantized": 0}, "arm recommended is to be quantized, and no layer is"),
        (False, {"calibrating": True}, "arm recommended: its static scales are not fixed"),
        (
            False,
            {"layers_informed": 0},
            "arm recommended is to be calibrated, and 0 of 18 layers know of recorded inputs",
        ),
        (
            True,
            {"layers_informed": 12},
            "arm recommended is to be calibrated, and 12 of 18 layers know of recorded inputs; packs are "
            "missing or damaged, see the log: calibrate anew",
        ),
    ],
)
def test_an_arm_that_is_not_what_it_is_called_is_refused(
    packs: bool, changes: dict[str, Any], told: str, checkpoint: Path
) -> None:
    (settled,) = settle_arms(DriftArguments(arms="recommended"), str(checkpoint), {})
    settled = dataclasses.replace(settled, packs={"date": "today"} if packs else None)
    check_quantized(settled, WHOLE)
    with pytest.raises(DriftError, match=f"^{re.escape(told)}"):
        check_quantized(settled, {**WHOLE, **changes})
