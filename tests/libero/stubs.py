"""The two ends of an episode in miniature: a policy without a model, a simulator without LIBERO."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gr00t.eval.libero.episode import STATE_KEYS
from gr00t.eval.libero.simulator import Observation, Progress, SimulatorError
from gr00t.eval.libero.suites import Task

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

    def __init__(self, success_at: dict[tuple[int, int], int], failures: dict[tuple[int, int], int]) -> None:
        self.success_at = success_at
        self.failures = failures
        self.opened: list[int] = []
        self.closed = 0
        self.actions: list[NDArray[np.float64]] = []
        self._task: int | None = None
        self._init_state = 0
        self._step = 0

    def open_task(self, task: Task, seed: int) -> int:
        self._task = task.index
        self.opened.append(task.index)
        return 4

    def start_episode(self, init_state: int) -> Progress:
        assert self._task is not None, "an episode of a task that is not open"
        self._init_state, self._step = init_state, 0
        return Progress(
            observation=self._observation(),
            steps=10,
            step_seconds=0.1,
            renders=2,
            camera_seconds={"agentview": 0.02},
        )

    def run(self, actions: NDArray[np.float64], record_every: int = 0) -> Progress:
        key = (self._task or 0, self._init_state)
        if self.failures.get(key, 0) > 0:
            self.failures[key] -= 1
            raise SimulatorError("GL went away")
        progress = Progress(step_seconds=0.01 * len(actions))
        for action in actions:
            self.actions.append(action)
            self._step += 1
            progress.steps += 1
            if record_every and self._step % record_every == 0:
                progress.frames.append(np.full((32, 32, 3), self._step, np.uint8))
            if self._step == self.success_at.get(key):
                progress.success = True
                break
        if not progress.success:
            progress.observation = self._observation()
        return progress

    def close(self) -> None:
        self.closed += 1
        self._task = None

    def _observation(self) -> Observation:
        image = np.zeros((32, 32, 3), np.uint8)
        return Observation(image=image, wrist_image=image + 1, state=np.arange(8, dtype=np.float64))
