"""What the tests of an evaluation share."""

from __future__ import annotations

from tests.eval.conftest import environ, stub_simulators

__all__ = ["environ", "stub_simulators"]
