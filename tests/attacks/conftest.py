"""What every attack shares: how many blows it takes, and a place for the figures that it measured.

By default each attack is short; with `--slow` it is as long as the one that found the faults. The figures are
printed at the end of the run, also when everything holds: a suite of attacks that says nothing has proven
nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

_FIGURE = "figure"


@pytest.fixture
def blows(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """`blows(default, slow)`: how many there are in this run."""
    return lambda default, slow: slow if request.config.getoption("--slow") else default


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """`figure(text)`: print `text` at the end of the run, after the name of the test."""
    return lambda text: request.node.user_properties.append((_FIGURE, f"{request.node.name}: {text}"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures of all attacks, which come with the reports: tests may run in other processes."""
    reports = [
        report
        for several in terminalreporter.stats.values()
        for report in several
        if isinstance(report, pytest.TestReport) and report.when == "call"
    ]
    figures = [text for report in reports for name, text in report.user_properties if name == _FIGURE]
    if figures:
        terminalreporter.section("attacks")
        for line in figures:
            terminalreporter.write_line(line)
