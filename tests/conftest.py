"""What every test shares: options, skips that name the command to enable a test, seeds, and a tiny model."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]

# Without a GPU Triton's kernels run interpreted. Triton reads this when it is imported, so it stands in the
# conftest file that is read first.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")


def _cuda_is_available() -> bool:
    # Asked only when a gpu test was collected: importing torch takes longer than most tests.
    import torch

    return torch.cuda.is_available()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run, each with the command that enables it."""
    gpu_tests = [item for item in items if item.get_closest_marker("gpu")]
    if gpu_tests and not _cuda_is_available():
        for item in gpu_tests:
            item.add_marker(pytest.mark.skip(reason="no CUDA device; on a machine with one: pytest -m gpu"))
    libero_installed = importlib.util.find_spec("libero") and importlib.util.find_spec("robosuite")
    for item in items:
        if item.get_closest_marker("slow") and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="slow; enable with: pytest --slow"))
        if item.get_closest_marker("libero") and not libero_installed:
            item.add_marker(
                pytest.mark.skip(reason="LIBERO is not installed; run: ./scripts/setup_env.sh core libero")
            )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let half a character that a test logs reach the process that collects the results, which takes none."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections
    ]
    return report


@pytest.fixture(autouse=True)
def _log_levels_as_they_were() -> Iterator[None]:
    """A program's own `main`, called in a test, sets the level of the log: not for the tests that follow."""
    loggers = (logging.getLogger(), logging.getLogger("gr00t"))
    before = [(logger.level, list(logger.handlers)) for logger in loggers]
    yield
    for logger, (level, handlers) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers[:] = handlers


@pytest.fixture(scope="session")
def repo() -> Path:
    """The folder that holds this repository."""
    return REPO


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint of random float32 weights; some folders of tests have another."""
    import torch  # here, as above

    from gr00t.testing.random_checkpoint import write_random_checkpoint

    return write_random_checkpoint(tmp_path_factory.mktemp("small"), torch_dtype=torch.float32)
