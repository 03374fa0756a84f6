"""Answers as numbers. Oracle: a policy whose numbers say which observation, step and column they are of."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from gr00t.eval.drift.chunks import Chunks, DriftError, answer_all, check_comparable


class CountingPolicy:
    """Answers 100 x observation + 10 x step + column, and the seed as its gripper."""

    def get_action(self, observations: dict[str, Any], *, seed: int | None = None) -> dict[str, Any]:
        at = 100.0 * observations["number"] + 10.0 * np.arange(3)
        return {
            "action.arm": np.stack([at, at + 1], axis=1).astype(np.float32),
            "action.gripper": np.full(3, seed, np.float32),
            **observations.get("more", {}),
        }


def test_columns_are_in_the_order_of_the_keys_and_the_seed_is_of_the_observation() -> None:
    told: list[None] = []
    found = answer_all(CountingPolicy(), [{"number": 1}, {"number": 2}], [7, 8], lambda: told.append(None))
    assert found.widths == {"arm": 2, "gripper": 1}
    assert found.values.dtype == np.float64
    assert found.values.tolist() == [
        [[100, 101, 7], [110, 111, 7], [120, 121, 7]],
        [[200, 201, 8], [210, 211, 8], [220, 221, 8]],
    ]
    assert found.columns(["gripper"]).tolist() == [False, False, True]
    assert len(told) == 2


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"action.arm": np.zeros((2, 2))}, "observation 1: the answer's shapes {'arm': (2, 2), "),
        ({"action.arm": np.zeros((3, 1))}, "observation 1: the answer's shapes {'arm': (3, 1), "),
        ({"action.other": np.zeros(3)}, "observation 1: the answer's shapes {'arm': (3, 2), "),
        ({"action.arm": np.full((3, 2), np.nan)}, "observation 1: the policy answers with inf or nan"),
        ({"action.arm": np.zeros((1, 3, 2))}, "expected a chunk (H,) or (H, width) of one observation"),
    ],
)
def test_an_answer_unlike_the_first_is_refused(more: dict[str, Any], told: str) -> None:
    with pytest.raises(DriftError, match=f"^{re.escape(told)}"):
        answer_all(CountingPolicy(), [{"number": 1}, {"number": 2, "more": more}], [0, 0])


def test_nothing_asked_is_nothing_answered() -> None:
    with pytest.raises(DriftError, match=r"^no observation to be answered$"):
        answer_all(CountingPolicy(), [], [])


def test_policies_of_other_actions_are_not_compared() -> None:
    base = Chunks({"arm": 2}, np.zeros((1, 4, 2)))
    with pytest.raises(DriftError, match=r"^actions of other keys or widths: \{'hand': 2\}, the base's are"):
        check_comparable(Chunks({"hand": 2}, base.values), base)
    with pytest.raises(DriftError, match=r"of shape \(1, 3, 2\), the base's are \(1, 4, 2\)$"):
        check_comparable(Chunks({"arm": 2}, np.zeros((1, 3, 2))), base)
