"""Pictures of strewn objects, and where each one is: for learning to see before learning to act.

An episode shows one scene for a hundred steps, and says only of one object where it is. Here the objects of
a task trade places and are strewn about, the arm stands as the expert held it at some moment, and of every
object the simulator itself says what each camera sees. Nothing moves, so a picture costs only its drawing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gr00t.libero.datagen.demonstrations import shrink
from gr00t.libero.expert.disturbance import Disturbance
from gr00t.libero.expert.placement import Circle, draw_places, footprint, free_objects
from gr00t.libero.expert.scene import Scene
from gr00t.libero.simulator.expert_episode import play_expert
from gr00t.libero.simulator.observation import CAMERAS, state_vector
from gr00t.libero.simulator.rendering import draw
from gr00t.libero.simulator.simulator import LiberoSimulator

_EPISODES, _EXPERT_STEPS, _DISTURBANCE = 3, 300, 0.5
# Scenes from one initial state, which gives the objects their heights and turns.
_SCENES_PER_STATE = 25
_TRADING = 0.7
_DRAWS = 20
# Radians by which each joint of the arm differs from what the expert did.
_ARM_NOISE = 0.06
# Side of what is drawn, as for policies; side of the images in which objects are looked for, and pixels that
# make one visible.
_SIZE, _LABEL_SIZE, _VISIBLE = 256, 128, 5


@dataclass(frozen=True)
class LabelledScenes:
    """N scenes with K kinds of objects, from C cameras in the order of `CAMERAS`.

    Attributes:
        images: (N, C, S, S, 3) uint8, as `Observation.image`.
        centres: (N, C, K, 2) float32: the middle of what is seen of each kind, as shares of the image's width
            from the left and height from the top; nan where nothing of it is seen.
        states: (N, 8) float32, as `Observation.state`.
        positions: (N, K, 3) float32 metres: the middle of each kind, in the frame of the hand's position in
            the state; nan where there is none of it.
    """

    images: NDArray[np.uint8]
    centres: NDArray[np.float32]
    states: NDArray[np.float32]
    positions: NDArray[np.float32]


def kind_of(name: str) -> str:
    """What an object is called in an instruction: `alphabet soup` of `alphabet_soup_1`."""
    return re.sub(r"_\d+$", "", name).replace("_", " ")


def sample_scenes(
    simulator: LiberoSimulator,
    kinds: Sequence[str],
    init_states: Sequence[int],
    count: int,
    seed: Sequence[int],
    size: int,
) -> LabelledScenes:
    """Draw scenes of the task that `simulator` has open, in recorded placement.

    Args:
        simulator: has a task open.
        kinds: see `kind_of`; what the labels are for.
        init_states: to start from.
        count: scenes.
        seed: of everything.
        size: side of the images, a divisor of 256; they are averaged down.
    """
    random = np.random.default_rng(seed)
    poses = arm_poses(simulator, init_states, random)
    scene = Scene(simulator.env)
    images, centres, states, positions = [], [], [], []
    strewn: Strewn | None = None
    for number in range(count):
        if strewn is None or number % _SCENES_PER_STATE == 0:
            simulator.start_episode(int(random.choice(init_states)))
            strewn = Strewn(simulator.env)
        strewn.strew(random)
        joints = poses[random.integers(len(poses))].copy()
        joints[:-2] += random.normal(0.0, _ARM_NOISE, len(joints) - 2)
        set_arm(simulator.env, joints)
        images.append([shrink(draw(simulator.env, camera, _SIZE), size) for camera in CAMERAS.values()])
        centres.append([visible_centres(simulator.env, camera, kinds) for camera in CAMERAS.values()])
        states.append(state_vector(simulator.env.env._get_observations(force_update=True)))
        positions.append(middles(scene, kinds))
    return LabelledScenes(
        np.array(images, dtype=np.uint8),
        *(np.array(labels, dtype=np.float32) for labels in (centres, states, positions)),
    )


def arm_poses(
    simulator: LiberoSimulator, init_states: Sequence[int], random: np.random.Generator
) -> NDArray[np.float64]:
    """Joint positions of arm and, in the last two, fingers in some disturbed episodes of the expert."""
    poses: list[NDArray[np.float64]] = []
    for _ in range(_EPISODES):
        play_expert(
            simulator,
            int(random.choice(init_states)),
            _EXPERT_STEPS,
            on_step=lambda *_: poses.append(simulator.env.sim.data.qpos[_joints(simulator.env)].copy()),
            disturb=Disturbance(_DISTURBANCE, random),
        )
    return np.array(poses)


def set_arm(env: Any, joints: NDArray[np.float64]) -> None:
    """Put the arm somewhere without moving it there."""
    env.sim.data.qpos[_joints(env)] = joints
    env.sim.forward()


def _joints(env: Any) -> list[int]:
    robot = env.env.robots[0]
    return [*robot._ref_joint_pos_indexes, *robot._ref_gripper_joint_pos_indexes]


class Strewn:
    """The free objects of a scene at rest, to be put somewhere else again and again.

    Args:
        env: LIBERO's `ControlEnv`.
    """

    def __init__(self, env: Any) -> None:
        scene = Scene(env)
        self._env = env
        self._names = free_objects(env)
        self._circles = {name: footprint(scene, name) for name in scene.objects}
        self._poses = {name: np.array(env.sim.data.get_joint_qpos(self._joint(name))) for name in self._names}

    def strew(self, random: np.random.Generator) -> None:
        """Put every object near its own place or, in most scenes, near that of another."""
        order = random.permutation(self._names) if random.random() < _TRADING else self._names
        wanted: list[Circle] = [
            (self._circles[other][0], self._circles[name][1])
            for name, other in zip(self._names, order, strict=True)
        ]
        fixed = [circle for name, circle in self._circles.items() if name not in self._names]
        places = None
        for _ in range(_DRAWS):
            places = draw_places(wanted, fixed, random)
            if places is not None:
                break
        else:
            places = [self._circles[name][0] for name in self._names]
        for name, place in zip(self._names, places, strict=True):
            pose = self._poses[name].copy()
            pose[:2] += place - self._circles[name][0]
            self._env.sim.data.set_joint_qpos(self._joint(name), pose)

    def _joint(self, name: str) -> str:
        joint: str = self._env.env.objects_dict[name].joints[0]
        return joint


def middles(scene: Scene, kinds: Sequence[str]) -> NDArray[np.float64]:
    """Where each kind of object is, (K, 3); see `LabelledScenes.positions`."""
    positions = np.full((len(kinds), 3), np.nan)
    for name in scene.objects:
        if kind_of(name) in kinds:
            positions[kinds.index(kind_of(name))] = scene.region(name).center
    return positions


def visible_centres(env: Any, camera: str, kinds: Sequence[str]) -> NDArray[np.float32]:
    """Where a camera sees each kind of object, (K, 2); see `LabelledScenes.centres`."""
    model = env.sim.model._model
    kind_of_body = {body: kind_of(name) for name, body in env.env.obj_body_id.items()}
    places = np.array(
        [
            kinds.index(kind) if (kind := kind_of_body.get(int(root))) in kinds else -1
            for root in model.body_rootid[model.geom_bodyid]
        ]
        # What is no geom: number -1.
        + [-1]
    )
    seen = places[visible_geoms(env, camera)]
    centres = np.full((len(kinds), 2), np.nan, dtype=np.float32)
    for place in range(len(kinds)):
        rows, columns = np.nonzero(seen == place)
        if len(rows) >= _VISIBLE:
            centres[place] = (columns.mean() + 0.5) / _LABEL_SIZE, (rows.mean() + 0.5) / _LABEL_SIZE
    return centres


def visible_geoms(env: Any, camera: str) -> NDArray[np.int64]:
    """The number of the geom that a camera sees in each pixel, -1 for none, turned as images are."""
    import mujoco

    # Not kept: the simulator makes a new context for the next task, and an old one dies with its last user.
    context = env.sim._render_context_offscreen
    context.render(_LABEL_SIZE, _LABEL_SIZE, env.sim.model.camera_name2id(camera), segmentation=True)
    colours = np.empty((_LABEL_SIZE, _LABEL_SIZE, 3), dtype=np.uint8)
    # MuJoCo's own call: robosuite 1.4 multiplies these bytes by 256 as bytes, which NumPy 2 refuses.
    viewport = mujoco.MjrRect(0, 0, _LABEL_SIZE, _LABEL_SIZE)
    mujoco.mjr_readPixels(rgb=colours, depth=None, viewport=viewport, con=context.con)
    numbers = colours.astype(np.int64) @ np.array([1, 1 << 8, 1 << 16])
    geoms = np.full(context.scn.ngeom + 1, -1, dtype=np.int64)
    for place in range(context.scn.ngeom):
        shape = context.scn.geoms[place]
        if shape.segid != -1 and shape.objtype == mujoco.mjtObj.mjOBJ_GEOM:
            geoms[shape.segid + 1] = shape.objid
    return geoms[np.where(numbers < len(geoms), numbers, 0)][::-1, ::-1]
