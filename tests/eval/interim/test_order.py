"""Oracle: counting. Every episode once, every task once a turn, every state once before any comes again."""

from __future__ import annotations

from gr00t.eval.interim.order import PlannedPair, pair_order

TASKS, STATES, SEEDS = [0, 3, 4], [5, 6, 7, 8], [2, 9]


def test_every_episode_comes_once_and_tasks_take_turns() -> None:
    order = pair_order(TASKS, STATES, SEEDS, 0)
    assert sorted(order) == [
        PlannedPair(seed, task, state) for seed in SEEDS for task in TASKS for state in STATES
    ]
    turns = [order[start : start + 3] for start in range(0, len(order), 3)]
    assert all(sorted(pair.task for pair in turn) == TASKS for turn in turns)
    assert {pair.seed for pair in order[:12]} == {2}
    # At random: neither do tasks come in their order, nor do all tasks meet states in the same one.
    assert any([pair.task for pair in turn] != TASKS for turn in turns)
    assert any(len({pair.init_state for pair in turn}) > 1 for turn in turns)


def test_the_order_follows_from_its_seed_alone() -> None:
    assert pair_order(TASKS, STATES, SEEDS, 1) == pair_order(TASKS, STATES, SEEDS, 1)
    assert pair_order(TASKS, STATES, SEEDS, 1) != pair_order(TASKS, STATES, SEEDS, 2)
