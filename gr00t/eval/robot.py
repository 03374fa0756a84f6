"""The import path of Isaac-GR00T N1.5 for a served policy: `gr00t.serving.robot` under that name."""

from __future__ import annotations

from gr00t.serving.robot import RobotInferenceClient, RobotInferenceServer

__all__ = ["RobotInferenceClient", "RobotInferenceServer"]
