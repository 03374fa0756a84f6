"""What every attack shares: how many blows it takes, and a place for the figures that it measured.

By default each attack is short; with `--slow` it is as long as the one that found the faults. The figures are
printed at the end of the run, also when everything holds: a suite of attacks that says nothing has proven
nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

_FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture
def blows(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """`blows(default, slow)`: how many there are in this run."""
    return lambda default, slow: slow if request.config.getoption("--slow") else default


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """`figure(text)`: print `text` at the end of the run, after the name of the test."""
    figures = request.config.stash.setdefault(_FIGURES, [])
    return lambda text: figures.append(f"{request.node.name}: {text}")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    """Print the figures of all attacks."""
    if figures := config.stash.get(_FIGURES, []):
        terminalreporter.section("attacks")
        for line in figures:
            terminalreporter.write_line(line)
