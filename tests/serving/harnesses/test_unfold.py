"""Angles that a harness has folded below pi. Oracle: vla-eval 0.8.0's own `quat_to_axisangle`, recorded.

Every twelfth state of 24 episodes of the scripted expert, two of each of three tasks of four suites
(scripts/collect_demonstrations.py SUITE --tasks 0,4,8 --init-states 20,21, 2026-12-01), beside what vla-eval
makes of its quaternion. The rule was also checked on all of their 3,613 steps.
"""

from __future__ import annotations

import numpy as np
import pytest

from gr00t.serving.harnesses.libero import unfold
from tests.shell import REPO

TURNS = np.load(REPO / "tests" / "golden" / "wires" / "libero_turns.npz")


def state(turn: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros(3), turn.astype(np.float64), np.zeros(2)])


@pytest.mark.parametrize("suite", ["libero_spatial", "libero_object", "libero_goal", "libero_10"])
def test_recorded_turns_come_back(suite: str) -> None:
    wanted, folded = TURNS[suite]
    assert len(wanted) > 50
    changed = 0
    for turn, sent in zip(wanted, folded, strict=True):
        # float32 in the harness: 2e-7 of 2 pi.
        np.testing.assert_allclose(unfold(state(sent))[3:6], turn, rtol=0, atol=2e-6)
        changed += bool((turn != sent).any() and np.linalg.norm(turn) > np.pi)
        np.testing.assert_array_equal(unfold(state(turn)), state(turn))  # what is whole stays as it is
    assert changed > len(wanted) / 4


def test_no_turn_at_all() -> None:
    np.testing.assert_array_equal(unfold(state(np.zeros(3))), np.zeros(8))
