"""A small checkpoint."""

from __future__ import annotations

from tests.serving.conftest import checkpoint

__all__ = ["checkpoint"]
