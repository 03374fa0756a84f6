"""The serving program, and a small checkpoint to serve."""

from __future__ import annotations

from tests.serving.conftest import checkpoint, program

__all__ = ["checkpoint", "program"]
