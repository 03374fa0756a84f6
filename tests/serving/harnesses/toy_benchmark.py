"""A benchmark of vla-eval's without a simulator: random frames in LIBERO's form, steps that are counted."""

from __future__ import annotations

from typing import Any

import numpy as np
from vla_eval.benchmarks.base import StepBenchmark, StepResult

STEPS = 20


class LIBEROBenchmark(StepBenchmark):
    """Two tasks; an episode succeeds when every action is the one that its place in a chunk asks for."""

    render_backends = frozenset({"gpu", "cpu"})

    @classmethod
    def configure_render(cls, mode: str) -> dict[str, str]:
        return {}

    def __init__(
        self, send_wrist_image: bool = False, send_state: bool = False, quat_no_antipodal: bool = False
    ) -> None:
        super().__init__()
        assert send_wrist_image
        assert send_state
        assert quat_no_antipodal
        self._step = 0
        self._right = True
        self._random = np.random.default_rng(0)

    def get_tasks(self) -> list[dict[str, Any]]:
        return [{"name": f"pick {number}", "suite": "libero_object", "task_id": number} for number in (0, 1)]

    def reset(self, task: dict[str, Any]) -> int:
        self._step, self._right = 0, True
        return 0

    def step(self, action: dict[str, Any]) -> StepResult:
        got = np.asarray(action["actions"])
        # tests.serving.websocket.peers.chunk: the second number is the action's place, in sixteenths.
        self._right &= got.shape == (7,) and got[1] == (self._step % 8) / 16
        self._step += 1
        return StepResult(self._step, 0.0, self._step >= STEPS, {})

    def make_obs(self, raw_obs: int, task: dict[str, Any]) -> dict[str, Any]:
        frames = self._random.integers(0, 256, (2, 32, 32, 3), np.uint8)
        return {
            "images": {"agentview": frames[0], "wrist": frames[1]},
            "task_description": task["name"],
            "states": np.array([0, 0, 0, 3.1, 0, 0, 0, raw_obs], np.float64),
        }

    def get_step_result(self, step_result: StepResult) -> dict[str, Any]:
        return {"success": bool(self._right)}

    def get_metadata(self) -> dict[str, Any]:
        return {"max_steps": STEPS + 5}

    def get_action_spec(self) -> dict[str, Any]:
        return {}

    def get_observation_spec(self) -> dict[str, Any]:
        return {}
