"""Oracles: the lengths of pushes, pauses and misses, and what the expert does about a miss in a stub."""

from __future__ import annotations

import numpy as np
import pytest

from gr00t.libero.expert import disturbance
from gr00t.libero.expert.disturbance import Disturbance, descends
from gr00t.libero.expert.motion import CLOSE, OPEN
from gr00t.libero.expert.pick_place import pick
from tests.libero.expert import stub_scene
from tests.libero.expert.stub_scene import StubScene, box

# What the expert means 3.5 cm above a grasp.
DESCENT = np.array([0.1, -0.1, -0.5, 0.0, 0.0, 0.0, OPEN])


def test_pushes_and_pauses_follow_each_other_and_what_is_held_is_pushed_less() -> None:
    largest = {}
    for gripper in (OPEN, CLOSE):
        disturb = Disturbance(0.2, np.random.default_rng(0))
        meant = np.array([0.0] * 6 + [gripper])
        errors = np.array([disturb(meant) for _ in range(20_000)])[:, :6]
        starts = np.flatnonzero(np.abs(np.diff(errors, axis=0)).sum(axis=1)) + 1
        parts = np.split(errors, starts)[:-1]
        pushes = np.array([part[0] for part in parts if part[0].any()])
        # A push is one motion for 3 to 8 steps, then there is none for 4 to 20.
        assert {len(part) for part in parts if part[0].any()} == set(range(3, 9))
        assert {len(part) for part in parts if not part[0].any()} == set(range(4, 21))
        assert len(pushes) == len(parts) // 2
        largest[gripper] = np.abs(pushes).max(axis=0)
    assert largest[OPEN] == pytest.approx(0.2 * np.array([1, 1, 1, 0.15, 0.15, 0.3]), rel=0.01)
    assert largest[CLOSE] == pytest.approx(0.4 * largest[OPEN], rel=1e-12)


def test_without_a_level_nothing_is_disturbed() -> None:
    meant = np.array([0.1, -0.2, 0.3, 0.0, 0.0, 0.5, OPEN])
    assert Disturbance(0.0, np.random.default_rng(0))(meant).tolist() == meant.tolist()


def test_a_grasp_is_missed_beside_with_fingers_closed_and_what_follows_is_left_in_peace() -> None:
    begins = []
    for seed in range(500):
        disturb = Disturbance(0.5, np.random.default_rng(seed))
        executed = np.array([disturb(DESCENT) for _ in range(300)])
        shut = executed[:, 6] == CLOSE
        closings = np.flatnonzero(np.diff(shut.astype(int)) == 1) + 1
        openings = np.flatnonzero(np.diff(shut.astype(int)) == -1) + 1
        assert len(closings) == len(openings) == 2, "twice in an episode, no more"
        for closing, opening in zip(closings, openings, strict=True):
            assert 4 + 6 <= opening - closing <= 7 + 16
            assert executed[opening - 6 : opening, 2].tolist() == [0.7] * 6
            assert executed[closing : closing + 4, :3].tolist() == [[0.0] * 3] * 4
            aside = np.flatnonzero(np.isclose(np.linalg.norm(executed[:closing, :2], axis=1), 1.0))[-7:]
            assert closing - 4 - 1 <= aside[-1] < closing
        assert executed[opening : opening + 40].tolist() == [DESCENT.tolist()] * 40
        begins.append(closings[0])
    # A chance of 0.5 * 0.2 at every step: the tenth on average, and 4 to 11 steps until the fingers close.
    # Measured: 16.4, with a standard error of 0.45.
    assert np.mean(begins) == pytest.approx(9 + 7.5, abs=1.5)


@pytest.mark.parametrize(("index", "value"), [(2, -0.8), (2, -0.2), (0, 0.5), (1, -0.5), (6, CLOSE)])
def test_only_over_a_grasp_is_it_missed(index: int, value: float) -> None:
    meant = DESCENT.copy()
    assert descends(meant)
    meant[index] = value
    assert not descends(meant)
    disturb = Disturbance(1.0, np.random.default_rng(0))
    assert {disturb(meant)[6] for _ in range(300)} == {meant[6]}


def test_the_expert_goes_back_to_what_it_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its label while the fingers are shut is to open them and to come nearer; then it grasps as before."""
    monkeypatch.setattr(disturbance, "_MISS", 1.0)
    # As far as the simulator's hand gets in a step.
    monkeypatch.setattr(stub_scene, "STEP_METRES", 0.012)
    for seed in range(20):
        scene = StubScene({"can": box((0.1, 0.0, 0.06), (0.03, 0.03, 0.06))})
        disturb = Disturbance(1.0, np.random.default_rng(seed))
        missing = 0
        for meant in pick(scene, "can"):
            executed = disturb(meant)
            if executed[6] == CLOSE and meant[6] == OPEN:
                way = scene.object_position("can")[:2] - scene.hand_position[:2]
                # Straight up where it has given a grasp up, else nearer.
                assert meant[:2] @ way >= 0
                missing += 1
            scene.execute(executed)
        assert missing >= 10
        assert scene.held == "can"
