"""What the scripted expert knows of the world: poses, collision boxes, regions and goals.

Everything here is privileged (no camera is asked) and read only: a `Scene` never steps or changes the
simulation, so that a skill may look as often as it likes between two actions.

Every collision geom counts as its bounding box, in its own frame. LIBERO builds objects from boxes, so this
is exact but for the rounded handle of the microwave.

Shapes: B boxes · P points · C corners (8 per box). Metres and radians; rotations map a thing's own frame to
the world's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gr00t.libero.tasks.suites import LiberoError
from gr00t.spelling import did_you_mean

Array = NDArray[np.float64]
Goal = list[str]

# MuJoCo's number for a slide among its kinds of joints.
_SLIDE = 2
_SIGNS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float64)


@dataclass(frozen=True)
class Boxes:
    """Boxes of any orientation: centers (B, 3), rotations (B, 3, 3), half sizes (B, 3)."""

    centers: Array
    rotations: Array
    halves: Array

    def __len__(self) -> int:
        return len(self.centers)

    def corners(self) -> Array:
        """All corners, (8 B, 3)."""
        offsets = np.einsum("bij,bcj->bci", self.rotations, _SIGNS[None] * self.halves[:, None])
        return (self.centers[:, None] + offsets).reshape(-1, 3)

    def distances(self, points: Array) -> Array:
        """Distance of each of the points (P, 3) to the nearest box, (P,): 0 inside, inf without boxes."""
        if not len(self):
            return np.full(len(points), np.inf)
        local = np.einsum("bji,bpj->bpi", self.rotations, points[None] - self.centers[:, None])
        outside = np.maximum(np.abs(local) - self.halves[:, None], 0.0)
        return np.asarray(np.linalg.norm(outside, axis=2).min(axis=0))

    def highest_along(self, start: Array, end: Array, radius: float) -> float:
        """Height of the highest box within `radius` of the way from `start` to `end`, (2,); -inf without.

        Seen from above, a box counts as the upright rectangle around it.
        """
        if not len(self):
            return -np.inf
        corners = self.corners().reshape(len(self), 8, 3)
        low, high = corners.min(axis=1), corners.max(axis=1)
        way = np.linspace(start, end, 1 + max(1, round(float(np.linalg.norm(end - start)) / 0.02)))[:, None]
        outside = np.maximum(np.maximum(low[None, :, :2] - way, way - high[None, :, :2]), 0.0)
        is_near = np.linalg.norm(outside, axis=2).min(axis=0) < radius
        return float(high[is_near, 2].max(initial=-np.inf))


@dataclass(frozen=True)
class Region:
    """A box in which, or on which, things are put: center (3,), rotation (3, 3), half sizes (3,)."""

    center: Array
    rotation: Array
    half: Array

    @property
    def extent(self) -> Array:
        """Half sizes of the upright box around it, (3,)."""
        return np.asarray(np.abs(self.rotation) @ self.half)

    @property
    def bottom(self) -> float:
        """Height of its lowest point."""
        return float(self.center[2] - self.extent[2])

    @property
    def top(self) -> float:
        """Height of its highest point."""
        return float(self.center[2] + self.extent[2])


@dataclass(frozen=True)
class Joint:
    """A hinge or a slide of a fixture, as it is at the moment.

    Attributes:
        slides: True for a drawer, False for a door or knob.
        axis: Direction of the slide or axis of the hinge, in the world, (3,), unit length.
        anchor: A point of the hinge's axis, in the world, (3,).
        position: Metres or radians. LIBERO's fixtures are closed, or off, at 0.
        end: The end of its range that is further from 0: wide open, or full on.
        boxes: Collision boxes of what it moves.
    """

    slides: bool
    axis: Array
    anchor: Array
    position: float
    end: float
    boxes: Boxes


class Scene:
    """The state of an environment as it is at the moment of asking.

    Args:
        env: LIBERO's `ControlEnv`, reset. A scene outlives episodes, not a reset, which rebuilds the model.
    """

    def __init__(self, env: Any) -> None:
        self._env = env.env
        self._sim = env.env.sim
        self._robot = env.env.robots[0]
        model = self._sim.model._model
        roots = model.body_rootid[model.geom_bodyid]
        collides = (model.geom_contype != 0) | (model.geom_conaffinity != 0)
        owned = np.isin(roots, list(self._env.obj_body_id.values()))
        # Geoms of objects and fixtures that can be touched, and to which of them each belongs.
        self._geoms = np.flatnonzero(collides & owned)
        self._owners = roots[self._geoms]
        self._boxes_in_geoms = np.asarray(model.geom_aabb[self._geoms], dtype=np.float64)
        # Of every geom: which finger it is a part of, 1 or 2, and which object.
        fingers = self._robot.gripper.important_geoms
        self._finger_of = np.zeros(model.ngeom, dtype=np.int64)
        for number, side in enumerate(("left_finger", "right_finger"), start=1):
            self._finger_of[[self._sim.model.geom_name2id(name) for name in fingers[side]]] = number
        self._root_of = roots

    @property
    def hand_position(self) -> Array:
        """The point between the finger tips, (3,)."""
        return np.array(self._sim.data.site_xpos[self._robot.eef_site_id])

    @property
    def hand_rotation(self) -> Array:
        """Columns are the hand's axes, (3, 3): fingers close along x, z is the direction they point in."""
        return np.array(self._sim.data.site_xmat[self._robot.eef_site_id]).reshape(3, 3)

    @property
    def base_position(self) -> Array:
        """Foot of the arm, (3,)."""
        return np.array(self._sim.data.get_body_xpos("robot0_base"))

    @property
    def elbow(self) -> float:
        """Angle of the arm's fourth joint, radians: from -3.07, folded, to -0.07."""
        return float(self._sim.data.qpos[self._robot._ref_joint_pos_indexes[3]])

    @property
    def finger_opening(self) -> float:
        """Distance between the finger tips, 0 to about 0.08."""
        return float(np.abs(self._sim.data.qpos[self._robot._ref_gripper_joint_pos_indexes]).sum())

    @property
    def grip_command(self) -> float:
        """What the fingers are driven to: from -1, wide open, to 1, shut; they may lag behind."""
        return float(-self._robot.gripper.current_action[0])

    def in_hand(self) -> str | None:
        """The movable object that both fingers touch; None if there is none."""
        pairs = np.asarray(self._sim.data._data.contact.geom).reshape(-1, 2)
        pairs = np.concatenate([pairs, pairs[:, ::-1]])
        touching = self._finger_of[pairs[:, 0]] > 0
        fingers, roots = self._finger_of[pairs[touching, 0]], self._root_of[pairs[touching, 1]]
        both = set(roots[fingers == 1]) & set(roots[fingers == 2])
        return next((name for name in self._env.objects_dict if self._body(name) in both), None)

    @property
    def objects(self) -> tuple[str, ...]:
        """Names of all movable objects and fixtures."""
        return tuple(self._env.obj_body_id)

    def is_object(self, name: str) -> bool:
        """Whether `name` is an object or fixture, and not a region."""
        return name in self._env.obj_body_id

    def is_movable(self, name: str) -> bool:
        """Whether `name` is an object that can be carried, and not a fixture or region."""
        return name in self._env.objects_dict

    def object_position(self, name: str) -> Array:
        """Origin of an object or fixture, (3,); the one that LIBERO's predicates ask about."""
        return np.array(self._sim.data.body_xpos[self._body(name)])

    def fastest_object(self) -> float:
        """The largest speed of a movable object's origin, metres per second; 0 without any."""
        joints = [thing.joints[0] for thing in self._env.objects_dict.values()]
        speeds = [np.linalg.norm(self._sim.data.get_joint_qvel(joint)[:3]) for joint in joints]
        return float(max(speeds, default=0.0))

    def boxes(self, name: str) -> Boxes:
        """Collision boxes of an object or fixture."""
        return self._boxes(self._owners == self._body(name))

    def corners(self, name: str) -> Array:
        """Corners of the collision boxes of an object or fixture, (C, 3)."""
        return self.boxes(name).corners()

    def obstacles(self, excluding: str = "") -> Boxes:
        """Collision boxes of all objects and fixtures but one; the robot, table and floor do not count."""
        mask = self._owners != self._body(excluding) if excluding else np.ones(len(self._owners), dtype=bool)
        return self._boxes(mask)

    def region(self, name: str) -> Region:
        """A named region, or the upright box around an object or fixture.

        Raises:
            LiberoError: if there is neither of that name.
        """
        sites = self._env.object_sites_dict
        if name in sites:
            rotation = np.array(self._sim.data.get_site_xmat(name)).reshape(3, 3)
            return Region(self.site_position(name), rotation, np.array(sites[name].size, dtype=np.float64))
        if not self.is_object(name):
            known = [*self.objects, *sites]
            raise LiberoError(f"no object or region {name!r}: {did_you_mean(name, known)}")
        corners = self.corners(name)
        low, high = corners.min(axis=0), corners.max(axis=0)
        return Region((low + high) / 2, np.eye(3), (high - low) / 2)

    def parent_of(self, region: str) -> str | None:
        """The object or fixture that carries a region; None for a place on the table or floor."""
        parent: str | None = self._env.object_sites_dict[region].parent_name
        return parent if parent in self._env.obj_body_id else None

    def site_position(self, name: str) -> Array:
        """Centre of a site of the model, by its full name, (3,)."""
        return np.array(self._sim.data.get_site_xpos(name))

    def joint_position(self, name: str) -> float:
        """Position of a hinge or slide of the model, by its full name."""
        return float(self._sim.data.get_joint_qpos(name))

    def joint(self, name: str) -> Joint | None:
        """The joint that opens a region (a drawer) or works a fixture (a door, a knob); None without any."""
        sites = self._env.object_sites_dict
        names = (sites[name] if name in sites else self._env.get_object(name)).joints
        if not names or self.is_movable(name):
            return None
        model, data = self._sim.model._model, self._sim.data
        index = self._sim.model.joint_name2id(names[0])
        low, high = model.jnt_range[index]
        moved = model.jnt_bodyid[index]
        # Of MuJoCo's bodies a parent always comes before its children.
        carried = np.arange(model.nbody) == moved
        for body in range(moved + 1, model.nbody):
            carried[body] = carried[model.body_parentid[body]]
        return Joint(
            slides=model.jnt_type[index] == _SLIDE,
            axis=np.array(data.xaxis[index]),
            anchor=np.array(data.xanchor[index]),
            position=self.joint_position(names[0]),
            end=float(high if abs(high) > abs(low) else low),
            boxes=self._boxes(carried[model.geom_bodyid[self._geoms]]),
        )

    def goals(self) -> list[Goal]:
        """What the task asks for, each a predicate and its arguments, e.g. `["on", "plate_1", "stove_1"]`."""
        return [list(goal) for goal in self._env.parsed_problem["goal_state"]]

    def holds(self, goal: Goal) -> bool:
        """Whether one of the goals is fulfilled."""
        return bool(self._env._eval_predicate(goal))

    def _body(self, name: str) -> int:
        bodies = self._env.obj_body_id
        if name not in bodies:
            raise LiberoError(f"no object {name!r}: {did_you_mean(name, bodies)}")
        return int(bodies[name])

    def _boxes(self, mask: NDArray[np.bool_]) -> Boxes:
        geoms, local = self._geoms[mask], self._boxes_in_geoms[mask]
        rotations = np.asarray(self._sim.data.geom_xmat[geoms], dtype=np.float64).reshape(-1, 3, 3)
        centers = self._sim.data.geom_xpos[geoms] + np.einsum("bij,bj->bi", rotations, local[:, :3])
        return Boxes(centers, rotations, local[:, 3:])
