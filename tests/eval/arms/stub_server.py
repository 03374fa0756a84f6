"""A policy server without a model, as a program: PORT [QUANTIZED_LAYERS]."""

from __future__ import annotations

import sys

from gr00t.serving.robot import RobotInferenceServer
from tests.eval.rollout.stubs import StubPolicy


class Policy(StubPolicy):
    def quantization_report(self) -> dict[str, object]:
        return {"enabled": True, "layers_quantized": int(sys.argv[2]) if sys.argv[2:] else 116}


if __name__ == "__main__":
    RobotInferenceServer(Policy(), port=int(sys.argv[1])).run()
