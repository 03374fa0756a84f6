"""A world of boxes without a simulator: the hand goes where it is told, what it closes around comes along."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from gr00t.libero.expert.motion import DOWN, Action, Skill
from gr00t.libero.expert.scene import Boxes, Goal, Region, Scene

Array = NDArray[np.float64]
# What the controller makes of a command of 1.
STEP_METRES, STEP_RADIANS = 0.05, 0.5
FINGER_STEP = 0.01


def box(center: tuple[float, float, float], half: tuple[float, float, float], yaw: float = 0.0) -> Boxes:
    cosine, sine = np.cos(yaw), np.sin(yaw)
    rotation = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
    return Boxes(np.array([center], dtype=float), rotation[None], np.array([half], dtype=float))


def joined(*parts: Boxes) -> Boxes:
    return Boxes(
        *(np.concatenate([getattr(p, name) for p in parts]) for name in ("centers", "rotations", "halves"))
    )


def bowl(center: tuple[float, float, float], radius: float, height: float) -> Boxes:
    """Sixteen boxes in a ring and one for the bottom."""
    x, y, z = center
    angles = np.linspace(0, 2 * np.pi, 17)[:-1]
    walls = [
        box((x + radius * np.cos(a), y + radius * np.sin(a), z + height / 2), (0.003, 0.012, height / 2), a)
        for a in angles
    ]
    return joined(*walls, box((x, y, z + 0.003), (radius / 2, radius / 2, 0.003)))


class StubScene(Scene):
    """What skills ask a `Scene`, answered from boxes.

    Args:
        objects: Boxes by name; all but `fixed` can be carried.
        regions: Regions by name.
        goals: `in` and `on` hold when the object's middle is in, or up to 5 cm above, the region.
        fixed: Objects that stay where they are.
    """

    def __init__(
        self,
        objects: dict[str, Boxes],
        regions: dict[str, Region] | None = None,
        goals: list[Goal] | None = None,
        fixed: tuple[str, ...] = (),
    ) -> None:
        self.parts = dict(objects)
        self.regions = regions or {}
        self.wanted = goals or []
        self.fixed = fixed
        self.hand = np.array([0.0, 0.0, 0.3])
        self.turned = DOWN.copy()
        self.opening = 0.04
        self.held: str | None = None
        self.slips = 0
        self.is_stuck = False
        self.bend = -2.0

    def execute(self, action: Action) -> None:
        """Move as an ideal controller would, then let the fingers take hold or let go."""
        assert action.shape == (7,)
        assert np.abs(action).max() <= 1.0
        if self.is_stuck:
            return
        move = action[:3] * STEP_METRES
        self.hand = self.hand + move
        self.turned = Rotation.from_rotvec(action[3:6] * STEP_RADIANS).as_matrix() @ self.turned
        if self.held:
            self._shift(self.held, move)
        self.opening = float(np.clip(self.opening - FINGER_STEP * action[6], 0.0, 0.04))
        if action[6] < 0:
            self._let_go()
        elif action[6] > 0 and self.held is None and self.opening < 0.02:
            self._take_hold()

    def _take_hold(self) -> None:
        tips = self.hand + self.turned[:, 0] * np.linspace(-0.04, 0.04, 17)[:, None]
        for name, boxes in self.parts.items():
            if name not in self.fixed and boxes.distances(tips).min() == 0.0:
                if self.slips:
                    self.slips -= 1
                else:
                    self.held = name
                return

    def _let_go(self) -> None:
        if self.held:
            name, self.held = self.held, None
            below = [r.bottom for r in self.regions.values() if self._is_over(name, r)]
            self._shift(name, np.array([0.0, 0.0, max(below, default=0.0) - self.corners(name)[:, 2].min()]))

    def _is_over(self, name: str, region: Region) -> bool:
        return bool((np.abs(self.object_position(name) - region.center) < region.extent)[:2].all())

    def _shift(self, name: str, by: Array) -> None:
        boxes = self.parts[name]
        self.parts[name] = Boxes(boxes.centers + by, boxes.rotations, boxes.halves)

    @property
    def hand_position(self) -> Array:
        return self.hand.copy()

    @property
    def hand_rotation(self) -> Array:
        return self.turned.copy()

    @property
    def base_position(self) -> Array:
        return np.array([-0.5, 0.0, 0.0])

    @property
    def elbow(self) -> float:
        return self.bend

    @property
    def finger_opening(self) -> float:
        return 2 * self.opening

    @property
    def grip_command(self) -> float:
        return 1.0 - 2.0 * self.opening / 0.04 if self.held is None else 1.0

    def in_hand(self) -> str | None:
        return self.held

    @property
    def objects(self) -> tuple[str, ...]:
        return tuple(self.parts)

    def is_object(self, name: str) -> bool:
        return name in self.parts

    def is_movable(self, name: str) -> bool:
        return name in self.parts and name not in self.fixed

    def object_position(self, name: str) -> Array:
        corners = self.corners(name)
        return (corners.min(axis=0) + corners.max(axis=0)) / 2

    def fastest_object(self) -> float:
        return 0.0

    def boxes(self, name: str) -> Boxes:
        return self.parts[name]

    def obstacles(self, excluding: str = "") -> Boxes:
        others = [boxes for name, boxes in self.parts.items() if name != excluding]
        return joined(*others) if others else Boxes(np.empty((0, 3)), np.empty((0, 3, 3)), np.empty((0, 3)))

    def joint(self, name: str) -> None:
        return None

    def parent_of(self, region: str) -> str | None:
        return None

    def region(self, name: str) -> Region:
        if name in self.regions:
            return self.regions[name]
        corners = self.corners(name)
        low, high = corners.min(axis=0), corners.max(axis=0)
        return Region((low + high) / 2, np.eye(3), (high - low) / 2)

    def goals(self) -> list[Goal]:
        return self.wanted

    def holds(self, goal: Goal) -> bool:
        name, region = goal[1], self.region(goal[2])
        height = self.object_position(name)[2] - region.center[2]
        return self.held != name and self._is_over(name, region) and bool(height < region.extent[2] + 0.05)


def play(scene: StubScene, skill: Skill, limit: int = 1000) -> tuple[bool | None, NDArray[np.float64]]:
    """Execute a skill to its end, or for `limit` steps; what it returned, and its actions (N, 7)."""
    actions = []
    for _ in range(limit):
        try:
            action = next(skill)
        except StopIteration as end:
            return end.value, np.reshape(actions, (-1, 7))
        scene.execute(action)
        actions.append(action)
    return None, np.reshape(actions, (-1, 7))


CAN = box((0.1, 0.05, 0.05), (0.03, 0.03, 0.05))
BASKET = Region(np.array([-0.1, -0.15, 0.05]), np.eye(3), np.array([0.06, 0.06, 0.05]))
