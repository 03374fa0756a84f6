"""A chunk that continues another. Oracles: the formula in float64 by hand, the text of errors."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch

from gr00t.model.network.chunk_overlap import ChunkOverlap
from tests.model.gr00t_n1d7.recorded_set import TINY, RecordedSet

OPTIONS = {"action_horizon": 8, "rtc_overlap_steps": 5, "rtc_frozen_steps": 2, "rtc_ramp_rate": 6.0}


def overlap(**changes: Any) -> ChunkOverlap:
    previous = torch.arange(10.0).view(1, 10, 1)
    return ChunkOverlap.from_options(previous, OPTIONS | changes)


def test_frozen_actions_stay_and_the_next_ones_are_let_go() -> None:
    found = overlap().strength(9, torch.zeros(1)).flatten().tolist()
    rising = [(1 - math.exp(-6 * s / 4)) / (1 - math.exp(-6)) for s in (1, 2, 3)]
    assert found == pytest.approx([0, 0, *rising, 1, 1, 1, 1], abs=1e-6)
    assert overlap(rtc_frozen_steps=5).strength(6, torch.zeros(1)).flatten().tolist() == [0, 0, 0, 0, 0, 1]
    assert overlap(rtc_overlap_steps=0, rtc_frozen_steps=0).strength(
        2, torch.zeros(1)
    ).flatten().tolist() == [1, 1]


def test_the_flow_starts_at_the_last_actions_of_the_chunk_before() -> None:
    noise = torch.full((1, 7, 1), -1.0)
    assert overlap().start(noise).flatten().tolist() == [3, 4, 5, 6, 7, -1, -1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rtc_frozen_steps": 6}, "expected 0 <= frozen <= steps <= horizon <= 10"),
        ({"rtc_overlap_steps": 9}, "got frozen 2, steps 9, horizon 8"),
        ({"action_horizon": 11}, "the length of the previous chunk; got frozen 2, steps 5, horizon 11"),
        ({"rtc_frozen_steps": -1}, "expected 0 <= frozen"),
        ({"rtc_frozen_steps": 1.0}, "overlap: frozen must be an integer, got 1.0"),
        ({"rtc_ramp_rate": 0.0}, "overlap: ramp_rate must be a positive number, got 0.0"),
        ({"rtc_ramp_rate": math.nan}, "overlap: ramp_rate must be a positive number, got nan"),
    ],
)
def test_options_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        overlap(**changes)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(
        ValueError, match=r"options: rtc_frozen_steps, rtc_ramp_rate missing; needed: action_hor"
    ):
        ChunkOverlap.from_options(torch.zeros(1, 9, 1), {"action_horizon": 8, "rtc_overlap_steps": 5})
    with pytest.raises(ValueError, match=r"5 steps of \(1, 10, 1\) do not fit chunks of shape \(2, 9, 1\)"):
        overlap().start(torch.zeros(2, 9, 1))


def test_a_model_needs_chunk_and_options_together() -> None:
    tiny = RecordedSet.load(TINY)
    with pytest.raises(ValueError, match="action, the chunk that is to be continued, and options"):
        tiny.model.get_action(tiny.inputs(1), options=OPTIONS)
    with pytest.raises(ValueError, match="belong together"):
        tiny.model.get_action(tiny.inputs(1) | {"action": tiny.noise(1)})
