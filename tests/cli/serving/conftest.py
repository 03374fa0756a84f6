"""Fixtures of the tests of what a server is started by."""

from __future__ import annotations

from tests.quantization.conftest import full_size

__all__ = ["full_size"]
