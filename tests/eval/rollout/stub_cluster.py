"""What the actors of a Ray cluster build in tests; they import it by name."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from gr00t.libero.simulator.observation import StepResult
from tests.eval.rollout.stubs import StubSimulator


class Mortal(StubSimulator):
    """Takes its whole process along, once per file `die-TASK-STATE` in `orders`."""

    def __init__(self, orders: Path) -> None:
        super().__init__({(0, 1): 5, (1, 0): 12}, {}, step_seconds=0.005)
        self.orders = orders

    def execute(self, *arguments: Any) -> StepResult:
        order = self.orders / f"die-{self._task}-{self._init_state}"
        times = int(order.read_text()) if order.exists() else 0
        if times:
            order.write_text(str(times - 1))
            os.kill(os.getpid(), signal.SIGKILL)
        (self.orders / f"process-{os.getpid()}").touch()
        return super().execute(*arguments)


def make(orders: Path, name: str) -> Mortal:
    return Mortal(orders)
