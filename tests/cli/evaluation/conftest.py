"""What the tests of an evaluation share."""

from __future__ import annotations

from tests.eval.conftest import environ, evaluation, stub_simulators

__all__ = ["environ", "evaluation", "stub_simulators"]
