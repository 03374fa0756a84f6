"""A batchable policy that doubles a number, in this process or, run as a program, in one of its own.

python tests/serving/doubling_policy.py PORT
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gr00t.serving.robot import RobotInferenceServer
from gr00t.serving.wires import n1_5 as wire


@dataclass(frozen=True)
class Number:
    value: float
    samples: int = 1
    kind: int = 0


class DoublingPolicy:
    """Remembers its batches; `gate` holds its forwards, of which `begun` tells."""

    can_batch = True

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.batches: list[list[float]] = []
        self.begun = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()

    def prepare(self, observations: dict[str, Any], *, seeds: int | None = None) -> Number:
        return Number(float(np.asarray(observations["state.x"]).reshape(())))

    def get_actions(self, requests: Sequence[Number]) -> list[dict[str, Any]]:
        self.begun.release()
        assert self.gate.wait(10)
        time.sleep(self.seconds)
        self.batches.append([request.value for request in requests])
        return [{"action.x": np.array([[2 * request.value]])} for request in requests]

    def get_action(self, observations: dict[str, Any], *, seeds: int | None = None) -> dict[str, Any]:
        return self.get_actions([self.prepare(observations)])[0]

    def get_modality_config(self) -> dict[str, Any]:
        return {}

    def quantization_report(self) -> dict[str, Any]:
        return {"enabled": False}


def request(number: float) -> bytes:
    """Return the message that asks for twice a number."""
    return wire.pack({"endpoint": "get_action", "data": {"state.x": np.array([[float(number)]])}})


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    RobotInferenceServer(DoublingPolicy(seconds=0.005), port=int(sys.argv[1])).run()
