"""Fixtures of the preprocessing tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.recorded import SETS, Recorded


@pytest.fixture(scope="session", params=SETS, ids=lambda path: path.stem)
def recorded(request: pytest.FixtureRequest) -> Recorded:
    """Every recorded set in turn."""
    return Recorded.load(request.param)


@pytest.fixture(scope="session")
def three_episodes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of episodes of 5, 3 and 4 rows, to be copied."""
    from tests.data.lerobot.lerobot_sets import written  # which needs what training needs

    return written(tmp_path_factory.mktemp("sets") / "set", 5, 3, 4)
