"""The import path of Isaac-GR00T N1.5 for a served policy, and for what such a server is made of."""

from __future__ import annotations

from gr00t.serving.client import ExternalRobotInferenceClient
from gr00t.serving.endpoints import RequestError
from gr00t.serving.limits import DEFAULT_MAX_BATCH
from gr00t.serving.robot import BatchablePolicy, RobotInferenceClient, RobotInferenceServer, ServedPolicy
from gr00t.serving.server import BaseInferenceServer

__all__ = [
    "DEFAULT_MAX_BATCH",
    "BaseInferenceServer",
    "BatchablePolicy",
    "ExternalRobotInferenceClient",
    "RequestError",
    "RobotInferenceClient",
    "RobotInferenceServer",
    "ServedPolicy",
]
