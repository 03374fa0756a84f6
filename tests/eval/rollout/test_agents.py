"""The control arms on a simulator in miniature. Oracle: the actions that reach it."""

from __future__ import annotations

import numpy as np

from gr00t.eval.rollout.agents import Expert, PolicyAgent, Replay, Zero
from gr00t.eval.rollout.episode import action_jerk
from gr00t.eval.rollout.plan import EpisodeJob
from gr00t.libero.simulator.simulator import IDLE_ACTION
from tests.eval.rollout.stubs import TASKS, StubHost, StubSimulator, stub_plan

PLAN = stub_plan(max_steps=20)
JOB = EpisodeJob(TASKS[0], 1)


def opened(success_at: int = 0) -> StubSimulator:
    simulator = StubSimulator({(0, 1): success_at}, {})
    simulator.open_task(TASKS[0], 0)
    return simulator


def test_zero_holds_still_until_the_limit() -> None:
    simulator = opened()
    episode = Zero().play(simulator, JOB, PLAN)
    assert (episode.success, episode.steps, episode.queries, episode.jerk) == (False, 20, 0, 0.0)
    np.testing.assert_array_equal(simulator.actions, np.tile(IDLE_ACTION, (20, 1)))


def test_the_expert_plays_with_its_noise_and_the_seed_of_the_run() -> None:
    episode = Expert(0.2).play(opened(), JOB, stub_plan(max_steps=20, seed=3))
    assert (episode.success, episode.steps) == (True, 7)
    assert episode.simulated_steps == 17
    quiet = Expert().play(opened(), JOB, PLAN)
    assert quiet.steps == 5
    assert quiet.actions_hash != episode.actions_hash


def test_replay_executes_the_experts_episode_of_the_last_state_and_then_holds_still() -> None:
    simulator = opened()
    replay = Replay(count_states=lambda task: 4)
    episode = replay.play(simulator, JOB, PLAN)
    # The stub's expert moves by 0.1 times one more than the number of the state, here 3, for five steps.
    expected = np.tile(IDLE_ACTION, (20, 1))
    expected[:, 6] = 0.4
    expected[:5] = 0.4
    np.testing.assert_allclose(simulator.actions, expected)
    assert (episode.success, episode.steps, episode.queries) == (False, 20, 0)
    assert episode.jerk == action_jerk(expected)


def test_replay_records_a_task_once_and_stops_at_success() -> None:
    simulator = opened(success_at=3)
    recorded: list[int] = []
    original = simulator.play_expert
    simulator.play_expert = lambda *a, **k: recorded.append(a[0]) or original(*a, **k)  # type: ignore[method-assign,func-returns-value]
    replay = Replay(count_states=lambda task: 4)
    first, second = (replay.play(simulator, JOB, PLAN) for _ in range(2))
    assert recorded == [3]
    assert (first.success, first.steps) == (second.success, second.steps) == (True, 3)
    assert first.actions_hash == second.actions_hash


def test_a_policy_with_grey_images_is_asked_the_same_but_for_its_images() -> None:
    seen, shown = StubHost(), StubHost()
    for host, images in ((seen, "camera"), (shown, "grey")):
        PolicyAgent(host, images).play(opened(), JOB, PLAN)
        # The server that answers is looked at behind the blindfold, too.
        assert host.confirmed == 1
    assert shown.policy.seeds == seen.policy.seeds
    assert len(shown.policy.seen) == 3
    for true, grey in zip(seen.policy.seen, shown.policy.seen, strict=True):
        assert true.keys() == grey.keys()
        for key, value in true.items():
            expected = value
            if key in ("video.image", "video.wrist_image"):
                expected = np.full((1, 32, 32, 3), 128, np.uint8)
                assert grey[key].dtype == np.uint8
                assert value.max() < 2
            np.testing.assert_array_equal(grey[key], expected, err_msg=key)
