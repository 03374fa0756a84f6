"""What the expert does for the goals of a task. Oracles: the goals themselves, and the noise asked for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from gr00t.libero.expert import expert
from gr00t.libero.expert.expert import disturbed, plan
from gr00t.libero.expert.motion import (
    CLOSE,
    Action,
)
from gr00t.libero.expert.scene import Region, Scene
from tests.libero.expert.stub_scene import BASKET, CAN, StubScene, box, play


def test_the_plan_fulfils_the_open_goals_in_order() -> None:
    goals = [["in", "can", "basket"], ["on", "box", "mat"], ["on", "done", "mat"], ["sing", "can", "basket"]]
    scene = StubScene(
        {
            "can": CAN,
            "box": box((0.1, -0.1, 0.02), (0.03, 0.03, 0.02)),
            "done": box((-0.1, 0.17, 0.02), (0.02, 0.02, 0.02)),
        },
        {
            "basket": BASKET,
            "mat": Region(np.array([-0.1, 0.15, 0.0]), np.eye(3), np.array([0.05, 0.05, 0.001])),
        },
        goals[:3],
    )
    done = scene.object_position("done")
    worked, _ = play(scene, plan(scene))
    assert worked is True
    assert all(scene.holds(goal) for goal in goals[:3])
    np.testing.assert_array_equal(scene.object_position("done"), done)
    # A goal that nobody has a skill for is left alone, and is not reported as reached.
    scene.wanted = [["sing", "box", "basket"]]
    worked, idle = play(scene, plan(scene))
    assert worked is False
    assert not idle[:, :6].any()


def test_the_plan_tries_again_what_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = StubScene({"can": CAN}, {"basket": BASKET}, [["in", "can", "basket"]])
    tried = []

    def fails(scene: Scene, name: str, target: str) -> Iterator[Action]:
        tried.append((name, target))
        yield np.zeros(7)
        return False

    monkeypatch.setitem(expert.SKILLS, "in", fails)
    worked, _ = play(scene, plan(scene))
    assert worked is False
    assert tried == [("can", "basket")] * expert.ATTEMPTS


def test_a_skill_corrects_what_noise_did_to_it() -> None:
    scene = StubScene({"can": CAN}, {"basket": BASKET}, [["in", "can", "basket"]])
    random = np.random.default_rng(0)
    for action in plan(scene):
        scene.execute(disturbed(action, 0.2, random))
    assert scene.holds(["in", "can", "basket"])


def test_noise_is_as_large_as_asked_for_and_leaves_the_gripper_alone() -> None:
    meant = np.array([0.1, 0.0, -0.1, 0.0, 0.0, 0.1, CLOSE])
    np.testing.assert_array_equal(disturbed(meant, 0.0, np.random.default_rng(0)), meant)
    random = np.random.default_rng(0)
    executed = np.array([disturbed(meant, 0.1, random) for _ in range(4000)])
    # Standard error of a standard deviation from 4000 samples: 1.1 %.
    np.testing.assert_allclose(executed[:, :6].std(axis=0), [0.1] * 3 + [0.03] * 3, rtol=0.05)
    assert (executed[:, 6] == CLOSE).all()
    wild = np.array([disturbed(meant, 5.0, random) for _ in range(10)])
    assert np.abs(wild).max() == 1.0
    np.testing.assert_array_equal(meant, [0.1, 0.0, -0.1, 0.0, 0.0, 0.1, CLOSE])
