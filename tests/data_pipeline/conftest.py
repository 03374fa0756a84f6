"""Fixtures of the preprocessing tests."""

from __future__ import annotations

import pytest

from tests.data_pipeline.recorded import SETS, Recorded


@pytest.fixture(scope="session", params=SETS, ids=lambda path: path.stem)
def recorded(request: pytest.FixtureRequest) -> Recorded:
    """Every recorded set in turn."""
    return Recorded.load(request.param)
