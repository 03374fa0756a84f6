"""Oracle: initial states from the end, as many observations of every task, evenly over its episodes."""

from __future__ import annotations

import re

import pytest

from gr00t.eval.rollout.collect import Collection, collect_observations
from gr00t.eval.rollout.episode import noise_seed
from gr00t.libero.simulator.simulator import SimulatorError
from gr00t.libero.tasks.suites import LiberoError
from tests.eval.rollout.stubs import TASKS, StubPolicy, StubSimulator

TEXT = "annotation.human.action.task_description"


def collect(
    simulator: StubSimulator, policy: StubPolicy, requests: int, max_steps: int = 40, **others: object
) -> Collection:
    return collect_observations(
        simulator, policy, TASKS, requests, seed=7, max_steps=max_steps, replan_steps=8, **others
    )


def test_every_task_in_turn_from_its_last_initial_state():
    simulator, policy, taken = StubSimulator({}, {}), StubPolicy(), []
    found = collect(simulator, policy, 7, on_episode=taken.append)
    assert found.init_states == {0: [3], 1: [3], 2: [3]}  # the stub's tasks have 4
    assert [values[TEXT] for values in found.observations] == [
        [f"pick {task}"] for task in (0, 1, 2, 0, 1, 2, 0)
    ]
    assert taken == [3, 2, 2]
    assert found.episodes == [0, 1, 2, 0, 1, 2, 0]
    assert simulator.placements == ["recorded"] * 3
    # 40 steps of 8 actions: 5 queries an episode. Of task 0 the first, third and fifth are kept, of the
    # others the ends.
    at = {id(values): index for index, values in enumerate(policy.seen)}
    assert [at[id(values)] for values in found.observations] == [0, 5, 10, 2, 9, 14, 4]
    assert policy.seeds[:2] == [noise_seed(7, "libero_object", 0, 3, query) for query in (0, 1)]


def test_short_episodes_are_followed_by_the_initial_state_before():
    found = collect(StubSimulator({(0, 3): 8, (1, 3): 8, (2, 3): 8}, {}), StubPolicy(), 6)
    assert found.init_states == {0: [3, 2], 1: [3, 2], 2: [3, 2]}
    assert len(found.observations) == 6


def test_the_first_half_of_the_initial_states_is_evaluations():
    simulator = StubSimulator({(task, state): 8 for task in range(3) for state in range(4)}, {})
    expected = (
        "libero_object task 0: the second half of its 4 initial states yields 2 observations, 3 are wanted; "
        "ask for fewer requests"
    )
    with pytest.raises(LiberoError, match=f"^{re.escape(expected)}$"):
        collect(simulator, StubPolicy(), 9)


def test_fewer_requests_than_tasks_open_only_as_many():
    simulator = StubSimulator({}, {})
    assert len(collect(simulator, StubPolicy(), 2).observations) == 2
    assert simulator.opened == [0, 1]


def test_a_simulator_that_fails_once_is_asked_again_and_twice_is_an_error(caplog):
    simulator = StubSimulator({}, {(1, 3): 1})
    assert len(collect(simulator, StubPolicy(), 6).observations) == 6
    assert (simulator.opened, simulator.closed) == ([0, 1, 1, 2], 1)
    assert caplog.messages == ["task 1, initial state 3: simulator error, retrying: GL went away"]
    with pytest.raises(SimulatorError, match="GL went away"):
        collect(StubSimulator({}, {(1, 3): 2}), StubPolicy(), 6)


def test_to_judge_the_first_half_is_played_from_the_first_two_episodes_a_task():
    simulator, policy = StubSimulator({}, {}), StubPolicy()
    found = collect(simulator, policy, 10, to_judge=True, placement="wide")
    assert found.init_states == {0: [0, 1], 1: [0, 1], 2: [0, 1]}
    # 4, 3 and 3: at most 2 of an episode, which are its ends.
    assert found.episodes == [0, 2, 4, 0, 2, 4, 1, 3, 5, 1]
    at = {id(values): index for index, values in enumerate(policy.seen)}
    assert [at[id(values)] for values in found.observations] == [0, 10, 20, 4, 14, 24, 5, 15, 25, 9]
    assert simulator.placements == ["wide"] * 3


def test_judging_takes_nothing_from_the_second_half():
    simulator = StubSimulator({(task, state): 8 for task in range(3) for state in range(4)}, {})
    with pytest.raises(LiberoError, match=r"the first half of its 4 initial states yields 2 observations, 3"):
        collect(simulator, StubPolicy(), 9, to_judge=True)
