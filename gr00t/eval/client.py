"""The import path under which programs know the client: `gr00t.serving.client` under that name."""

from __future__ import annotations

from gr00t.serving.client import (
    DEFAULT_TIMEOUT_MS,
    BaseInferenceClient,
    ExternalRobotInferenceClient,
    NoReplyError,
    NoServerError,
    ServerError,
)

__all__ = [
    "DEFAULT_TIMEOUT_MS",
    "BaseInferenceClient",
    "ExternalRobotInferenceClient",
    "NoReplyError",
    "NoServerError",
    "ServerError",
]
