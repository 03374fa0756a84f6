"""When the expert takes over. Oracles: weights counted by hand, and the frequencies of many draws."""

from __future__ import annotations

import numpy as np

from gr00t.eval.takeovers.choice import APART, closings, likelihoods, takeover_steps

OPEN, CLOSE = -1.0, 1.0


def gripper(*runs: tuple[float, int]) -> np.ndarray:
    return np.concatenate([np.full(count, command) for command, count in runs])


def test_fingers_begin_to_close_where_they_did_not_before() -> None:
    assert closings(gripper((OPEN, 3), (CLOSE, 2), (OPEN, 1), (CLOSE, 4))).tolist() == [3, 6]
    assert closings(gripper((CLOSE, 2), (OPEN, 2))).tolist() == [0]
    assert closings(gripper((OPEN, 5))).tolist() == []


def test_steps_near_a_closing_are_four_times_as_likely() -> None:
    found = likelihoods(gripper((OPEN, 50), (CLOSE, 50)))
    # From 20 steps before the 50th to 9 after it: 30 steps of weight 4 beside 70 of weight 1.
    assert np.allclose(found[30:60], 4 / 190)
    assert np.allclose(np.delete(found, np.s_[30:60]), 1 / 190)


def test_draws_follow_the_likelihoods() -> None:
    random = np.random.default_rng(0)
    drawn = [takeover_steps(gripper((OPEN, 50), (CLOSE, 50)), 1, random)[0] for _ in range(2000)]
    # 120 / 190 of them lie near, give or take four standard deviations of 0.011.
    assert abs(np.mean([30 <= step < 60 for step in drawn]) - 120 / 190) < 0.044


def test_takeovers_of_an_episode_are_apart_in_order_and_as_many_as_fit() -> None:
    for seed in range(50):
        steps = takeover_steps(gripper((OPEN, 20), (CLOSE, 20)), 3, np.random.default_rng(seed))
        assert len(steps) == 3
        assert min(np.diff(steps)) >= APART
    few = takeover_steps(gripper((OPEN, APART)), 3, np.random.default_rng(0))
    assert len(few) == 1
    assert takeover_steps(gripper((OPEN, 0)), 3, np.random.default_rng(0)) == []
