"""Oracle: what `gc` itself says."""

from __future__ import annotations

import gc

import pytest

from gr00t.processes.collector import collector_paused


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_as_it_was(enabled: bool) -> None:
    was_enabled, frozen = gc.isenabled(), gc.get_freeze_count()
    try:
        (gc.enable if enabled else gc.disable)()
        with collector_paused():
            assert not gc.isenabled()
        assert gc.isenabled() is enabled
        assert gc.get_freeze_count() > frozen
    finally:
        (gc.enable if was_enabled else gc.disable)()
        gc.unfreeze()
