"""The import path of Isaac-GR00T N1.5 for the service: an N1.5 script finds every name here."""

from __future__ import annotations

from gr00t.eval.client import BaseInferenceClient, ExternalRobotInferenceClient
from gr00t.eval.server import BaseInferenceServer, EndpointHandler
from gr00t.eval.wire import MsgSerializer

__all__ = [
    "BaseInferenceClient",
    "BaseInferenceServer",
    "EndpointHandler",
    "ExternalRobotInferenceClient",
    "MsgSerializer",
]
