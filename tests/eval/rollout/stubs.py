"""The two ends of an episode in miniature: a policy without a model, a simulator without LIBERO."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gr00t.eval.rollout.plan import EvalPlan
from gr00t.eval.rollout.record_parts import ArmConditions
from gr00t.eval.rollout.records import EpisodeRecord, read_records
from gr00t.libero.simulator.expert_episode import ExpertEpisode
from gr00t.libero.simulator.observation import Observation, StepResult
from gr00t.libero.simulator.simulator import SimulatorError
from gr00t.libero.tasks.suites import Task, find_suite
from gr00t.serving.client import NoServerError
from gr00t.serving.harnesses.libero import STATE_KEYS

TASKS = [
    Task("libero_object", index, f"pick_{index}", f"pick {index}", Path("none.bddl"), Path("none.init"))
    for index in range(3)
]


class StubPolicy:
    """Answers with chunks of 16 gentle actions and remembers what it was asked."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.seeds: list[Any] = []

    def get_action(
        self, observations: dict[str, Any], *, seed: Any = None, seeds: Any = None
    ) -> dict[str, Any]:
        self.seen.append(observations)
        self.seeds.append(seed if seeds is None else seeds)
        actions = {f"action.{key}": np.zeros((16, 1), np.float32) for key in STATE_KEYS}
        actions["action.x"][:] = 0.25
        actions["action.gripper"][:] = 1.0
        return actions

    def get_modality_config(self) -> dict[str, Any]:
        return {}

    def quantization_report(self) -> dict[str, Any]:
        return {"enabled": True, "layers_quantized": 116}


class StubSimulator:
    """Succeeds at a chosen step of each episode; fails at chosen (task, initial state) as often as told."""

    def __init__(
        self,
        success_at: dict[tuple[int, int], int],
        failures: dict[tuple[int, int], int],
        step_seconds: float = 0.0,
    ) -> None:
        self.success_at = success_at
        self.failures = failures
        self.step_seconds = step_seconds
        self.versions = {"mujoco": "3", "robosuite": "1.4.0"}
        self.opened: list[int] = []
        self.placements: list[str] = []
        # What is lifted wrongly at which step of every episode.
        self.lifts: tuple[str, int] | None = None
        self.closed = 0
        self.actions: list[NDArray[np.float64]] = []
        self._task: int | None = None
        self._init_state = 0
        self._step = 0

    def open_task(self, task: Task, seed: int, placement: str = "recorded") -> int:
        self._task = task.index
        self.opened.append(task.index)
        self.placements.append(placement)
        return 4

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What the method of the function's name returns: nothing here is a `LiberoSimulator`."""
        return getattr(self, function.__name__)(*arguments)

    def start_episode(self, init_state: int) -> StepResult:
        assert self._task is not None, "an episode of a task that is not open"
        self._init_state, self._step = init_state, 0
        return StepResult(
            observation=self._observation(),
            steps=10,
            step_seconds=0.1,
            renders=2,
            camera_seconds={"agentview": 0.02},
        )

    def execute(self, actions: NDArray[np.float64], record_every: int = 0) -> StepResult:
        key = (self._task or 0, self._init_state)
        if self.failures.get(key, 0) > 0:
            self.failures[key] -= 1
            raise SimulatorError("GL went away")
        time.sleep(self.step_seconds * len(actions))
        progress = StepResult(step_seconds=0.01 * len(actions))
        for action in actions:
            self.actions.append(action)
            self._step += 1
            progress.steps += 1
            if self.lifts is not None and self._step == self.lifts[1]:
                progress.lifted_wrong = self.lifts[0]
            if record_every and self._step % record_every == 0:
                progress.frames.append(np.full((32, 32, 3), self._step, np.uint8))
            if self._step == self.success_at.get(key):
                progress.success = True
                break
        if not progress.success:
            progress.observation = self._observation()
        return progress

    def play_expert(
        self, init_state: int, max_steps: int, noise: float = 0.0, seed: int = 0, record_every: int = 0
    ) -> ExpertEpisode:
        """Moves by the initial state's number; needs five steps, as many more as there is noise."""
        steps = min(max_steps, 5 + round(10 * noise))
        actions = np.full((steps, 7), 0.1 * (1 + init_state) + noise * seed)
        self.start_episode(init_state)
        return ExpertEpisode(steps < max_steps, actions, StepResult(steps=10 + steps, step_seconds=0.15))

    def view(self) -> NDArray[np.uint8]:
        return np.full((32, 32, 3), self._step, np.uint8)

    def close(self) -> None:
        self.closed += 1
        self._task = None

    def _observation(self) -> Observation:
        image = np.zeros((32, 32, 3), np.uint8)
        return Observation(image=image, wrist_image=image + 1, state=np.arange(8, dtype=np.float64))


class StubHost:
    """Where a `StubPolicy` lives. It is lost before the queries of `losses`, counted from 0."""

    def __init__(self, losses: Iterable[int] = ()) -> None:
        self.policy = StubPolicy()
        self.losses = set(losses)
        self.recoveries = 0
        self.confirmed = 0
        self._queries = 0
        self._lock = threading.Lock()

    def connect(self) -> StubHost:
        return self

    def get_action(self, observations: dict[str, Any], *, seed: int | None = None) -> dict[str, Any]:
        with self._lock:
            query, self._queries = self._queries, self._queries + 1
            if query in self.losses:
                raise NoServerError("the server went away")
            return self.policy.get_action(observations, seed=seed)

    def ping(self, timeout_ms: int) -> bool:
        return True

    def recover(self) -> None:
        self.recoveries += 1

    def confirm(self, policy: object) -> None:
        self.confirmed += 1

    def close(self) -> None:
        pass


CONDITIONS = ArmConditions(
    assets="stand-ins",
    assets_fingerprint="f00",
    rendering="fast",
    placement="recorded",
    gl_backend="osmesa",
    denoising_steps=8,
    quantized_layers=116,
    server="tcp://localhost:5555",
    versions={"gr00t": "1"},
    identity="0a1b",
)


def stub_plan(**changes: Any) -> EvalPlan:
    defaults: dict[str, Any] = {
        "suite": find_suite("object"),
        "tasks": tuple(TASKS[:2]),
        "trials": 2,
        "max_steps": 20,
    }
    return EvalPlan(**{**defaults, **changes})


def asked(plan: EvalPlan, **arms: Any) -> dict[str, Any]:
    """What plan.json says of `plan`."""
    return {**plan.conditions(), **plan.coverage(), "arms": arms or {"policy": {"kind": "address"}}}


def records_of(folder: Path) -> list[EpisodeRecord]:
    """The records of a run, in the order of what was played."""
    return sorted(read_records(folder / "episodes.jsonl"), key=lambda record: record.key)
