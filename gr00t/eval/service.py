"""The import path of Isaac-GR00T N1.5 for the service: an N1.5 script finds every name here."""

from __future__ import annotations

from gr00t.serving.client import BaseInferenceClient, ExternalRobotInferenceClient
from gr00t.serving.server import BaseInferenceServer, EndpointHandler
from gr00t.serving.wires.n1_5 import MsgSerializer

__all__ = [
    "BaseInferenceClient",
    "BaseInferenceServer",
    "EndpointHandler",
    "ExternalRobotInferenceClient",
    "MsgSerializer",
]
