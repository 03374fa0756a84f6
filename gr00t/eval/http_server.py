"""The import path of Isaac-GR00T N1.5 for the server over HTTP: `gr00t.serving.http.server`."""

from __future__ import annotations

from gr00t.serving.http.server import HTTPInferenceServer, create_http_server

__all__ = ["HTTPInferenceServer", "create_http_server"]
