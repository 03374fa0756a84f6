"""Recorded preprocessing, as in the tests of the data."""

from __future__ import annotations

from tests.data.conftest import recorded

__all__ = ["recorded"]
