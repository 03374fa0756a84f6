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
* An episode can be gone back to, bit for bit, so that another goes on from there: see `moment`.

Imports of mujoco and LIBERO happen in `open_task`, after `simulator_environ` has prepared the process.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gr00t.libero.expert.lifted import LiftWatch
from gr00t.libero.expert.placement import place_widely
from gr00t.libero.expert.scene import Scene
from gr00t.libero.simulator.libero_environment import computed_once, environment_class, reset
from gr00t.libero.simulator.observation import CAMERAS, Observation, StepResult, state_vector
from gr00t.libero.simulator.rendering import FULL, Rendering, SceneEditor, draw
from gr00t.libero.simulator.snapshot import Moment, Snapshot, restore, take_snapshot
from gr00t.libero.tasks.prompts import problem_file
from gr00t.libero.tasks.suites import Task, load_init_states

CONTROL_HZ = 20
SETTLING_STEPS = 10
IDLE_ACTION = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0)


class SimulatorError(RuntimeError):
    """The simulator failed, which says nothing about the robot's policy."""


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
        self._snapshot: Snapshot | None = None
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
        reset(self._env.env)
        self._snapshot = take_snapshot(self._env)
        self._watch = LiftWatch(Scene(self._env))
        return len(self._init_states)

    def start_episode(self, init_state: int) -> StepResult:
        """Restore the task, set initial state number `init_state`, and let the objects settle."""
        result = self.settle(init_state)
        result.observation = self.observe(result)
        return result

    def execute(self, actions: NDArray[np.float64], record_every: int = 0) -> StepResult:
        """Execute actions until they or the task are done.

        Args:
            actions: (N, 7) float64: position and rotation deltas in [-1, 1], gripper (-1 open, 1 closed).
            record_every: Keep every so many-th agent view for a video; 0 draws nothing but the last view.
        """
        result = StepResult()
        for action in actions:
            self.step(action, result)
            if result.steps == len(actions) and not result.success:
                result.observation = self.observe(result)
            self.record(result, record_every)
            if result.success:
                break
        return result

    def step(self, action: NDArray[np.float64], result: StepResult) -> None:
        """Execute one action (7,) of an episode, and note in `result` what it led to; draws nothing."""
        self._move(action, result)
        result.steps += 1
        self._steps += 1
        result.success = bool(self._env.check_success())
        result.lifted_wrong = self._watch.look()

    def observe(self, result: StepResult) -> Observation:
        """Draw what a policy sees now; its cost is added to `result`."""
        images = {name: self._draw(camera, result) for name, camera in CAMERAS.items()}
        return Observation(state=state_vector(self._raw), **images)

    def record(self, result: StepResult, every: int) -> None:
        """Keep the agent's view in `result.frames` if this is an `every`-th step or success; 0: never."""
        if every and (self._steps % every == 0 or result.success):
            seen = result.observation
            result.frames.append(seen.image if seen else self._draw(CAMERAS["image"], result))

    def moment(self, action: NDArray[np.float64]) -> Moment:
        """What `go_back` needs to come to where executing `action` (7,), the next thing to do, will lead."""
        return Moment(
            task=(self._task.suite, self._task.index, self._placement_seed),
            before=take_snapshot(self._env, with_sensors=True),
            action=np.array(action),
            steps=self._steps,
            lifted=self._watch.remembered(),
        )

    def go_back(self, moment: Moment, result: StepResult) -> None:
        """Be where an episode of the open task was after the action of `moment`; the next may be another's.

        What follows from positions, such as contacts and what cameras see, is of the last physics step: so
        the state before the action is restored and the action executed again, and all is as it was, bit for
        bit. `result` is told as by `step`.

        Raises:
            SimulatorError: it is of another task.
        """
        here = (self._task.suite, self._task.index, self._placement_seed)
        if self._env is None or moment.task != here:
            raise SimulatorError(f"a moment of the task {moment.task} cannot be gone back to in {here}")
        restore(self._env, moment.before)
        self._steps = moment.steps
        self._watch.remember(moment.lifted)
        self.step(moment.action, result)

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
        return self._draw(CAMERAS["image"], StepResult())

    def positions(self) -> NDArray[np.float64]:
        """Generalized positions (nq,) float64, for tests that compare trajectories."""
        return np.array(self._env.sim.data.qpos, dtype=np.float64)

    def close(self) -> None:
        """Close the environment, if one is open."""
        if self._env is not None:
            self._env.close()
            self._env = None
            self._snapshot = None
        if LiberoSimulator._owner is self:
            LiberoSimulator._owner = None

    def settle(self, init_state: int, prove: bool = True) -> StepResult:
        """Restore the task, set an initial state, and let the objects come to rest; draws nothing."""
        result = StepResult()

        def begin() -> None:
            self._restore_snapshot()
            self._raw = self._env.set_init_state(self._init_states[init_state])
            self._steps = 0
            for _ in range(SETTLING_STEPS):
                self._move(np.asarray(IDLE_ACTION), result)

        if self._placement == "recorded":
            begin()
        else:
            place = (self._task.suite, self._placement_seed, self._task.index, init_state)
            accepted = place_widely(
                *(self._env, begin, lambda action: self._move(action, result), list(place[1:])),
                attempt=self._accepted.get(place),
                prove=prove,
            )
            if prove:
                self._accepted[place] = accepted
        self._watch.begin()
        result.steps = SETTLING_STEPS
        return result

    def _move(self, action: NDArray[np.float64], result: StepResult) -> None:
        started = time.perf_counter()
        with computed_once(self._env.sim):
            self._raw = self._env.step(action)[0]
        result.step_seconds += time.perf_counter() - started
        # MuJoCo answers a diverged state by a warning and a silent reset of the whole scene.
        for warning in self._env.sim.data._data.warning:
            if warning.number:
                raise SimulatorError("the simulation diverged (MuJoCo reset the scene by itself)")

    def _draw(self, camera: str, result: StepResult) -> NDArray[np.uint8]:
        started = time.perf_counter()
        pixels = draw(self._env, camera, self._image_size)
        elapsed = time.perf_counter() - started
        result.camera_seconds[camera] = result.camera_seconds.get(camera, 0.0) + elapsed
        result.renders += 1
        return pixels

    def _restore_snapshot(self) -> None:
        if self._env is None or self._snapshot is None:
            raise SimulatorError("no task is open")
        restore(self._env, self._snapshot)
