"""The expert's skills on drawers and knobs. Oracles: closed forms, scipy's rotations, a stub world in which a
joint moves only with what grips or pushes it, LIBERO's own predicates."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from gr00t.libero.expert import expert
from gr00t.libero.expert.arm import turn_about
from gr00t.libero.expert.expert import plan
from gr00t.libero.expert.fixtures import (
    close_drawer,
    hand_frame,
    handle_of,
    open_drawer,
    outwards,
    ridge_of,
    sloping,
    turn_on,
)
from gr00t.libero.expert.motion import CLOSE, DOWN, Action, Skill, hold
from gr00t.libero.expert.scene import Boxes, Goal, Joint, Region, Scene
from gr00t.libero.simulator.environ import choose_backend, simulator_environ
from gr00t.libero.tasks.suites import libero_package
from tests.libero.expert.stub_scene import StubScene, box, joined, play

Array = NDArray[np.float64]
UP = np.array([0.0, 0.0, 1.0])


def turned(boxes: Boxes, anchor: Array, angle: float) -> Boxes:
    rotation = Rotation.from_euler("z", angle).as_matrix()
    centers = anchor + (boxes.centers - anchor) @ rotation.T
    return Boxes(centers, rotation @ boxes.rotations, boxes.halves)


def region(center: tuple[float, float, float], half: tuple[float, float, float]) -> Region:
    return Region(np.array(center), np.eye(3), np.array(half))


class JointScene(StubScene):
    """A stub world with one drawer or knob, that moves with what holds it, or gives way to what pushes it.

    Args:
        boxes: Of what moves, at position 0.
        slides: A drawer that opens along -y, or a knob about the z axis through (0, 0).
        end: End of its range.
        position: Where it is at first.
    """

    def __init__(self, boxes: Boxes, *, slides: bool, end: float, position: float = 0.0) -> None:
        super().__init__({}, regions={"place": region((0.0, 0.0, 0.1), (0.05, 0.05, 0.05))})
        self.at_zero, self.slides, self.end, self.position = boxes, slides, end, position
        self.grips = False

    def moved(self) -> Boxes:
        if not self.slides:
            return turned(self.at_zero, np.zeros(3), self.position)
        shift = np.array([0.0, self.position, 0.0])
        return Boxes(self.at_zero.centers + shift, self.at_zero.rotations, self.at_zero.halves)

    def joint(self, name: str) -> Joint | None:  # type: ignore[override]
        axis = np.array([0.0, 1.0, 0.0]) if self.slides else UP
        return Joint(self.slides, axis, np.zeros(3), self.position, self.end, self.moved())

    def execute(self, action: Action) -> None:
        # In small steps, so that no contact is jumped over.
        for _ in range(10):
            before, heading = self.hand.copy(), self.turned.copy()
            super().execute(np.append(action[:6] / 10, 0.0))
            # What is not held can only be pushed shut.
            is_pushed = self.slides and self.hand[1] > before[1] and self.contact() == 0.0
            if self.grips or is_pushed:
                cross = np.cross(heading[:, 0], self.turned[:, 0])[2]
                angle = float(np.arctan2(cross, heading[:, 0] @ self.turned[:, 0]))
                self.position += float((self.hand - before)[1]) if self.slides else angle
                self.position = float(np.clip(self.position, *sorted((0.0, self.end))))
        was_open = self.opening > 0.01
        self.opening = float(np.clip(self.opening - 0.01 * action[6], 0.0, 0.04))
        self.grips = self.opening <= 0.01 and (self.grips or (was_open and self.contact() == 0.0))

    def contact(self) -> float:
        """Distance of what is between the finger tips to what moves."""
        tips = self.hand + self.turned[:, 0] * np.linspace(-self.opening, self.opening, 9)[:, None]
        return float(self.moved().distances(tips[2:-2]).min())

    def holds(self, goal: Goal) -> bool:
        if goal[0] == "close":
            return abs(self.position) < 1e-3
        return abs(self.position) > 0.8 * abs(self.end) if goal[0] == "open" else self.position > 0.5


DRAWER = joined(
    box((0.0, 0.0, 0.1), (0.1, 0.08, 0.03)),  # the body
    box((0.0, -0.11, 0.1), (0.045, 0.008, 0.008)),  # the handle
    box((0.03, -0.09, 0.1), (0.005, 0.01, 0.005)),  # what carries it
)
KNOB = joined(
    box((0.0, 0.0, 0.006), (0.034, 0.034, 0.006)),  # the disc
    box((-0.01, 0.0, 0.03), (0.034, 0.012, 0.024)),  # the ridge
)


def test_rotations_about_an_axis_are_scipys() -> None:
    for vector in np.random.default_rng(0).normal(size=(20, 3)):
        angle = float(np.linalg.norm(vector))
        ours, theirs = turn_about(vector / angle, angle), Rotation.from_rotvec(vector).as_matrix()
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_a_hand_frame_points_closes_and_takes_the_shorter_turn() -> None:
    approach = sloping(np.array([0.0, 1.0, 0.0]), 0.2)
    np.testing.assert_allclose(approach, [0.0, np.cos(0.2), -np.sin(0.2)], atol=1e-12)
    for near in (DOWN, DOWN * [-1.0, -1.0, 1.0]):
        frame = hand_frame(approach, np.array([0.3, 0.0, 1.0]), near)
        np.testing.assert_allclose(frame.T @ frame, np.eye(3), atol=1e-12)
        assert np.linalg.det(frame) == pytest.approx(1.0)
        np.testing.assert_allclose(frame[:, 2], approach, atol=1e-12)
        # It closes in the plane of what was asked for and the approach.
        assert frame[:, 0] @ np.cross(approach, [0.3, 0.0, 1.0]) == pytest.approx(0.0, abs=1e-12)
        other = frame * [-1.0, -1.0, 1.0]
        assert Rotation.from_matrix(frame @ near.T).magnitude() <= (
            Rotation.from_matrix(other @ near.T).magnitude() + 1e-9
        )


def test_the_handle_is_what_sticks_out_furthest_and_the_ridge_is_what_is_highest() -> None:
    joint = JointScene(DRAWER, slides=True, end=-0.16).joint("place")
    assert joint is not None
    np.testing.assert_allclose(outwards(joint), [0.0, -1.0, 0.0])
    center, along = handle_of(joint)
    np.testing.assert_allclose(center, [0.0, -0.11, 0.1])
    np.testing.assert_allclose(np.abs(along), [1.0, 0.0, 0.0])
    for yaw in (0.0, 0.7):
        top, across = ridge_of(turned(KNOB, np.zeros(3), yaw))
        assert top == pytest.approx(0.054)
        np.testing.assert_allclose(np.abs(across), np.abs([-np.sin(yaw), np.cos(yaw), 0.0]), atol=1e-12)


def test_a_drawer_is_pulled_open_by_its_handle_and_pushed_shut() -> None:
    scene = JointScene(DRAWER, slides=True, end=-0.16)
    opened, actions = play(scene, open_drawer(scene, "place"))
    assert opened is True
    assert scene.position == pytest.approx(-0.16)
    # Measured: 34 with the stub's ideal arm; the simulator's takes 80.
    assert len(actions) < 60
    assert scene.opening == 0.04, "it lets go"
    assert scene.hand[1] < -0.3, "and keeps away"
    shut, _ = play(scene, close_drawer(scene, "place"))
    assert shut is True
    assert scene.position == 0.0


def test_a_knob_is_turned_on_whatever_its_angle() -> None:
    for yaw in (0.0, 0.6, -0.6):
        scene = JointScene(turned(KNOB, np.zeros(3), yaw), slides=False, end=2.1)
        on, actions = play(scene, turn_on(scene, "place"))
        assert on is True, yaw
        # Asked for: 1.2. Held from the first step of the turn to its tolerance of 0.06.
        assert scene.position == pytest.approx(1.2, abs=0.1)
        assert len(actions) < 120


def test_skills_on_joints_refuse_what_has_none() -> None:
    scene = StubScene({}, regions={"place": region((0, 0, 0.1), (0.05, 0.05, 0.05))})
    knob = JointScene(KNOB, slides=False, end=2.1)
    for skill in (open_drawer(scene, "place"), close_drawer(scene, "place"), turn_on(scene, "place")):
        worked, actions = play(scene, skill)
        assert (worked, len(actions)) == (False, 0)
    worked, actions = play(knob, open_drawer(knob, "place"))
    assert (worked, len(actions)) == (False, 0)


def test_what_is_to_be_shut_is_shut_last_and_only_when_full(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    state = {"in": 0, "close": 0}

    class Asking(StubScene):
        def goals(self) -> list[Goal]:
            return [["close", "drawer"], ["in", "bowl", "drawer"]]

        def holds(self, goal: Goal) -> bool:
            return bool(state[goal[0]])

    def skill(name: str, attempts: int) -> Callable[..., Skill]:
        def fulfil(scene: Scene, *_: str) -> Skill:
            calls.append(name)
            state[name] = int(calls.count(name) >= attempts)
            return (yield from hold(scene, CLOSE, 1))

        return fulfil

    monkeypatch.setitem(expert.SKILLS, "in", skill("in", 2))
    monkeypatch.setitem(expert.SKILLS, "close", skill("close", 1))
    scene = Asking({})
    assert play(scene, plan(scene))[0] is True
    assert calls == ["in", "in", "close"]


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables with a cache of our own, and without assets of the user's."""
    base = {**os.environ, "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("xdg")), "LIBERO_ASSETS": ""}
    return simulator_environ(base, backend=choose_backend("auto", os.environ), package=libero_package())


def rollouts(repo: Path, environ: dict[str, str], *arguments: str) -> Any:
    """The last line of scripts/expert_rollouts.py with built-in stand-ins."""
    program = str(repo / "scripts" / "expert_rollouts.py")
    result = subprocess.run(
        [sys.executable, program, *arguments, "--assets", "stand-ins"],
        env=environ,
        cwd=environ["XDG_CACHE_HOME"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.libero
def test_the_expert_opens_a_drawer_and_turns_a_knob_in_the_simulator(
    repo: Path, environ: dict[str, str]
) -> None:
    result = rollouts(repo, environ, "libero_goal", "--tasks", "0,7", "--init-states", "3")
    assert (result["episodes"], result["failed"]) == (2, [])


@pytest.mark.libero
@pytest.mark.slow
@pytest.mark.parametrize(("suite", "tasks"), [("libero_goal", "0,3,5,7"), ("libero_10", "all")])
def test_the_expert_solves_fixture_tasks(repo: Path, environ: dict[str, str], suite: str, tasks: str) -> None:
    arguments = (suite, "--tasks", tasks, "--init-states", "0-4", "--workers", "2")
    result = rollouts(repo, environ, *arguments)
    # Measured with LIBERO's own meshes: 80 of 80 over initial states 0-19, and 130 of 130 of libero_10 (0-9,
    # tasks 3, 5 and 9: 0-19).
    assert result["success_rate"] >= 0.9, result["failed"]
