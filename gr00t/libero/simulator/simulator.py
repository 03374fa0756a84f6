"""One LIBERO environment in this process, with the protocol of published evaluations built in.

What the class knows so that its callers need not:

* Two live rendering environments in a process draw with each other's GL context (wrong pixels, no error): a
  second one is refused.
* Fixtures are placed by `np.random` during reset, so a task is created under a seed and reset exactly once.
  Every episode then restores that moment and sets its recorded initial state, which equals a fresh reset
  without its recompilation, and keeps the fixtures where they were.
* The arm's operational-space controller keeps its last orientation goal while the commanded rotation is zero.
  Setting a state after another episode without restoring the controller makes the arm drift by centimetres.
* Rendering costs more than physics: images are drawn only when someone will look at them.

Imports of mujoco and LIBERO happen in `open_task`, after `simulator_environ` has prepared the process.
"""

from __future__ import annotations

import copy
import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gr00t.libero.expert.expert import disturbed, plan
from gr00t.libero.expert.lifted import LiftWatch
from gr00t.libero.expert.motion import Action
from gr00t.libero.expert.placement import place_widely
from gr00t.libero.expert.scene import Scene
from gr00t.libero.simulator.libero_import import environment_class
from gr00t.libero.simulator.physics import computed_once
from gr00t.libero.simulator.rendering import FULL, Rendering, SceneEditor, draw
from gr00t.libero.simulator.robot_state import state_vector
from gr00t.libero.tasks.prompts import problem_file
from gr00t.libero.tasks.suites import Task, load_init_states

CONTROL_HZ = 20
SETTLING_STEPS = 10
IDLE_ACTION = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0)
CAMERAS = {"image": "agentview", "wrist_image": "robot0_eye_in_hand"}
_PLAIN = (np.ndarray, float, int, bool, str, list, tuple, type(None))


class SimulatorError(RuntimeError):
    """The simulator failed, which says nothing about the robot's policy."""


@dataclass(frozen=True)
class Observation:
    """What a policy sees: two images (S, S, 3) uint8, rotated by 180 degrees, and the state (8,) float64."""

    image: NDArray[np.uint8]
    wrist_image: NDArray[np.uint8]
    state: NDArray[np.float64]


@dataclass
class Progress:
    """What a run of actions led to.

    Attributes:
        steps: Control steps taken; fewer than actions when the task succeeded on the way.
        success: Whether the task's goal holds after the last step.
        observation: The view after the last step; None after success, when nobody needs it.
        frames: Agent views recorded on the way, for a video.
        step_seconds: Time spent in physics.
        camera_seconds: Time spent drawing, by camera.
        renders: Images drawn.
        lifted_wrong: The first object lifted in this episode that the task does not speak of.
    """

    steps: int = 0
    success: bool = False
    observation: Observation | None = None
    frames: list[NDArray[np.uint8]] = field(default_factory=list)
    step_seconds: float = 0.0
    camera_seconds: dict[str, float] = field(default_factory=dict)
    renders: int = 0
    lifted_wrong: str | None = None

    @property
    def render_seconds(self) -> float:
        """Time spent drawing."""
        return sum(self.camera_seconds.values())


@dataclass
class ExpertEpisode:
    """What the scripted expert did in one episode.

    Attributes:
        success: Whether the task's goal holds after the last step.
        actions: What was executed, (N, 7) float64.
        timing: Times, and frames for a video; its `steps` include the settling ones.
    """

    success: bool
    actions: NDArray[np.float64]
    timing: Progress

    @property
    def steps(self) -> int:
        """Control steps that the expert took."""
        return len(self.actions)

    @property
    def frames(self) -> list[NDArray[np.uint8]]:
        """Agent views recorded on the way."""
        return self.timing.frames


class LiberoSimulator:
    """Plays episodes of one task at a time.

    Args:
        assets: An assets folder that is complete for the tasks to come.
        image_size: Side of the square images.
        rendering: How the scenes are drawn.
        robot_meshes: Folder of the light robot's meshes, if `rendering` wants them.

    Raises:
        LiberoError: a light robot without its meshes.
    """

    _owner: ClassVar[LiberoSimulator | None] = None

    def __init__(
        self,
        assets: Path,
        image_size: int = 256,
        rendering: Rendering = FULL,
        robot_meshes: Path | None = None,
    ) -> None:
        self._assets = assets
        self._image_size = image_size
        self._edit_scene = SceneEditor(rendering, robot_meshes)
        self._env: Any = None
        self._task: Task  # the open one
        self._watch: LiftWatch  # of it
        self._snapshot: dict[str, Any] = {}
        self._init_states: NDArray[np.float64] = np.empty((0, 0))
        self._raw: dict[str, Any] = {}
        self._steps = 0
        self._placement = "recorded"
        self._placement_seed = 0
        # By suite, seed, task and initial state: proven once for all arms that it plays.
        self._accepted: dict[tuple[str, int, int, int], int] = {}

    def open_task(self, task: Task, seed: int, placement: str = "recorded") -> int:
        """Create the environment of `task`, reset it once under `seed`; return its number of initial states.

        Args:
            task: The task.
            seed: Places the fixtures, and the objects in wide placements.
            placement: One of `gr00t.libero.expert.placement.PLACEMENTS`.

        Raises:
            SimulatorError: if another simulator of this process is open.
        """
        if LiberoSimulator._owner not in (None, self):
            raise SimulatorError("another LIBERO environment is open in this process: close it first")
        self.close()
        env_class = environment_class(self._assets)
        LiberoSimulator._owner = self
        self._init_states = load_init_states(task)
        self._task = task
        self._placement, self._placement_seed = placement, seed
        # The constructor places fixtures too: what a task looks like must not depend on what ran earlier.
        np.random.seed(seed)
        with problem_file(task) as problem:
            self._env = env_class(
                bddl_file_name=str(problem),
                use_camera_obs=False,
                # The reset below builds the scene anew: a drawing context made here would be thrown away.
                has_offscreen_renderer=False,
                # libero_10 runs for 1000 steps after the settling ones; robosuite would end it at 1000.
                ignore_done=True,
                camera_heights=self._image_size,
                camera_widths=self._image_size,
            )
        self._env.env.has_offscreen_renderer = True
        self._env.env.set_xml_processor(self._edit_scene)
        self._env.seed(seed)
        _reset(self._env.env)
        self._snapshot = self._take_snapshot()
        self._watch = LiftWatch(Scene(self._env))
        return len(self._init_states)

    def start_episode(self, init_state: int) -> Progress:
        """Restore the task, set initial state number `init_state`, and let the objects settle."""
        progress = self.settle(init_state)
        progress.observation = self._observe(progress)
        return progress

    def run(self, actions: NDArray[np.float64], record_every: int = 0) -> Progress:
        """Execute actions until they or the task are done.

        Args:
            actions: (N, 7) float64: position and rotation deltas in [-1, 1], gripper (-1 open, 1 closed).
            record_every: Keep every so many-th agent view for a video; 0 draws nothing but the last view.
        """
        progress = Progress()
        for index, action in enumerate(actions):
            self._step(action, progress)
            progress.success = bool(self._env.check_success())
            progress.lifted_wrong = self._watch.look()
            self._steps += 1
            finished = progress.success or index == len(actions) - 1
            if finished and not progress.success:
                progress.observation = self._observe(progress)
            if record_every and (self._steps % record_every == 0 or progress.success):
                seen = progress.observation
                progress.frames.append(seen.image if seen else self._render(CAMERAS["image"], progress))
            if finished:
                break
        progress.steps = index + 1
        return progress

    def play_expert(
        self,
        init_state: int,
        max_steps: int,
        noise: float = 0.0,
        seed: int = 0,
        record_every: int = 0,
        on_step: Callable[[Callable[[], Observation], NDArray[np.float64], NDArray[np.float64]], None]
        | None = None,
        disturb: Callable[[Action], Action] | None = None,
        prove: bool = True,
    ) -> ExpertEpisode:
        """Play an episode of the open task by the scripted expert, which knows the simulation's state.

        Args:
            init_state: Number of the recorded initial state.
            max_steps: Control steps after which the expert has failed.
            noise: Gaussian noise on its motion commands, see `gr00t.libero.expert.expert.disturbed`.
            seed: Seeds the noise, together with the task and the initial state.
            record_every: Keep every so many-th agent view for a video; 0 draws nothing.
            on_step: For demonstrations: told before each step a function that draws and returns what a policy
                would see, the action (7,) that will be executed, and the one that the expert means.
            disturb: Instead of `noise`: from what the expert means to what is executed.
            prove: Whether a wide placement must have been solved once already, see `place_widely`.
        """
        progress = self.settle(init_state, prove)
        random = np.random.default_rng([seed, self._task.index, init_state])
        actions: list[NDArray[np.float64]] = []
        for meant in plan(Scene(self._env)):
            if progress.success or len(actions) == max_steps:
                break
            executed = disturb(meant) if disturb is not None else disturbed(meant, noise, random)
            if on_step is not None:
                on_step(lambda: self._observe(progress), executed, meant)
            self._step(executed, progress)
            actions.append(executed)
            progress.steps += 1
            progress.success = bool(self._env.check_success())
            progress.lifted_wrong = self._watch.look()
            if record_every and (len(actions) % record_every == 0 or progress.success):
                progress.frames.append(self._render(CAMERAS["image"], progress))
        return ExpertEpisode(progress.success, np.reshape(actions, (-1, 7)), progress)

    @property
    def task(self) -> Task:
        """The open task."""
        return self._task

    @property
    def env(self) -> Any:
        """LIBERO's `ControlEnv` of the open task, for who arranges or reads more than episodes need."""
        return self._env

    def view(self) -> NDArray[np.uint8]:
        """Draw what the agent's camera sees now, (S, S, 3)."""
        return self._render(CAMERAS["image"], Progress())

    def positions(self) -> NDArray[np.float64]:
        """Generalized positions (nq,) float64, for tests that compare trajectories."""
        return np.array(self._env.sim.data.qpos, dtype=np.float64)

    def close(self) -> None:
        """Close the environment, if one is open."""
        if self._env is not None:
            self._env.close()
            self._env = None
            self._snapshot = {}
        if LiberoSimulator._owner is self:
            LiberoSimulator._owner = None

    def settle(self, init_state: int, prove: bool = True) -> Progress:
        """Restore the task, set an initial state, and let the objects come to rest; draws nothing."""
        progress = Progress()

        def begin() -> None:
            self._restore_snapshot()
            self._raw = self._env.set_init_state(self._init_states[init_state])
            self._steps = 0
            for _ in range(SETTLING_STEPS):
                self._step(np.asarray(IDLE_ACTION), progress)

        if self._placement == "recorded":
            begin()
        else:
            place = (self._task.suite, self._placement_seed, self._task.index, init_state)
            accepted = place_widely(
                *(self._env, begin, lambda action: self._step(action, progress), list(place[1:])),
                attempt=self._accepted.get(place),
                prove=prove,
            )
            if prove:
                self._accepted[place] = accepted
        self._watch.begin()
        progress.steps = SETTLING_STEPS
        return progress

    def _step(self, action: NDArray[np.float64], progress: Progress) -> None:
        started = time.perf_counter()
        with computed_once(self._env.sim):
            self._raw = self._env.step(action)[0]
        progress.step_seconds += time.perf_counter() - started
        # MuJoCo answers a diverged state by a warning and a silent reset of the whole scene.
        for warning in self._env.sim.data._data.warning:
            if warning.number:
                raise SimulatorError("the simulation diverged (MuJoCo reset the scene by itself)")

    def _observe(self, progress: Progress) -> Observation:
        images = {name: self._render(camera, progress) for name, camera in CAMERAS.items()}
        return Observation(state=state_vector(self._raw), **images)

    def _render(self, camera: str, progress: Progress) -> NDArray[np.uint8]:
        started = time.perf_counter()
        pixels = draw(self._env, camera, self._image_size)
        elapsed = time.perf_counter() - started
        progress.camera_seconds[camera] = progress.camera_seconds.get(camera, 0.0) + elapsed
        progress.renders += 1
        return pixels

    def _take_snapshot(self) -> dict[str, Any]:
        import mujoco

        robot, model = self._env.env.robots[0], self._env.sim.model._model
        # Everything that a step depends on besides the model; the rest is computed from it.
        state = np.empty(mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION))
        mujoco.mj_getState(model, self._env.sim.data._data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
        return {
            "state": state,
            "controller": _plain_attributes(robot.controller),
            "gripper": copy.deepcopy(robot.gripper.current_action),
            "torques": copy.deepcopy(robot.torques),
        }

    def _restore_snapshot(self) -> None:
        import mujoco

        if self._env is None:
            raise SimulatorError("no task is open")
        inner, sim = self._env.env, self._env.sim
        model, data = sim.model._model, sim.data._data
        # Warnings of a diverged episode, too, are forgotten here.
        mujoco.mj_resetData(model, data)
        mujoco.mj_setState(model, data, self._snapshot["state"], mujoco.mjtState.mjSTATE_INTEGRATION)
        robot = inner.robots[0]
        vars(robot.controller).update(copy.deepcopy(self._snapshot["controller"]))
        robot.gripper.current_action = copy.deepcopy(self._snapshot["gripper"])
        robot.torques = copy.deepcopy(self._snapshot["torques"])
        inner.timestep, inner.cur_time, inner.done = 0, 0, False
        for observable in inner._observables.values():
            observable.reset()


def _reset(env: Any) -> None:
    """Reset LIBERO's inner environment, again when its objects found no place.

    The wrapper's own loop around this swallows every error, a missing mesh or broken GL too, and never ends.
    """
    no_place = importlib.import_module("robosuite.utils.errors").RandomizationError
    while True:
        try:
            env.reset()
        except no_place:
            continue
        return


def _plain_attributes(thing: object) -> dict[str, Any]:
    return {name: copy.deepcopy(value) for name, value in vars(thing).items() if isinstance(value, _PLAIN)}
